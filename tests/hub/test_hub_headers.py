"""Headers from the Hub: everything about the tensors, and none of their bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hub_models import WEIGHT_BYTES, long_header, one_file, sharded

from mdm_kit.sources import parse_header

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

SURVEY = """
with open_source(ModelRef("org/model"), "m") as source:
    found = source.headers()
    origin = source.origin()
    answer = {
        "tensors": {
            n: [i.file, list(i.span), i.dtype, list(i.shape)] for n, i in found.tensors.items()
        },
        "files": [
            [f.name, f.nbytes, f.header_nbytes, f.header_sha256, f.sha256, f.in_cache]
            for f in found.files
        ],
        "origin": [origin.kind, origin.repo, origin.commit, origin.path],
        "witness": source.witness(),
        "fingerprint": source.fingerprint(),
        "sides": source.side_files(),
    }
"""


def expected(files: dict[str, bytes]) -> tuple[dict[str, list[object]], list[list[object]]]:
    """Return what a survey of `files` must say, from the bytes themselves."""
    tensors: dict[str, list[object]] = {}
    facts: list[list[object]] = []
    for name, data in sorted(files.items()):
        if name.endswith(".safetensors"):
            header = parse_header("m", name, data, len(data))
            for i in header.tensors:
                tensors[i.name] = [i.file, list(i.span), i.dtype, list(i.shape)]
            whole = hashlib.sha256(data).hexdigest()
            facts.append([name, len(data), header.nbytes, header.sha256, whole, False])
    return tensors, facts


@pytest.mark.parametrize("redirect", [False, True])
def test_one_file(hub: Hub, client: Client, redirect: bool) -> None:
    files = one_file()
    commit = hub.repo("org/model", files, redirect=redirect)
    answer = client.run(SURVEY, token=True)
    assert (answer["tensors"], answer["files"]) == expected(files)
    assert answer["origin"] == ["hub", "org/model", commit, None]
    assert answer["sides"] == ["config.json"]
    assert sum(r.sent for r in hub.log if r.method == "GET") < 110_000 < WEIGHT_BYTES
    content = [r for r in hub.log if "/resolve/" in r.path or "/cdn/" in r.path]
    assert [r.range for r in content] == ["bytes=0-99999"] * len(content)
    assert all(commit in r.path for r in content if "/resolve/" in r.path)
    assert len(content) == (2 if redirect else 1)


def test_shards(hub: Hub, client: Client) -> None:
    files = sharded()
    hub.repo("org/model", files)
    answer = client.run(SURVEY)
    assert (answer["tensors"], answer["files"]) == expected(files)
    assert answer["sides"] == ["additional_chat_templates/tool.jinja", "tokenizer.json"]
    assert hub.bytes_sent(".safetensors") == 200_000


def test_header_longer_than_the_first_request(hub: Hub, client: Client) -> None:
    files = long_header()
    hub.repo("org/model", files)
    answer = client.run(SURVEY)
    assert (answer["tensors"], answer["files"]) == expected(files)
    n = answer["files"][0][2]
    ranges = [r.range for r in hub.log if r.path.endswith(".safetensors")]
    assert ranges == ["bytes=0-99999", f"bytes=100000-{n - 1}"]


def test_server_that_ignores_ranges(hub: Hub, client: Client) -> None:
    """The whole file comes; it is dropped after the header, and the header is right."""
    nbytes = 64_000_000  # many times what the sockets between us hold
    for files in (one_file(nbytes=nbytes), long_header()):
        hub.repo("org/model", files)
        hub.fault(r"GET .*\.safetensors", ignore_range=True, times=2)
        answer = client.run(SURVEY)
        assert (answer["tensors"], answer["files"]) == expected(files)
        hub.faults.clear()
    assert hub.bytes_sent("model.safetensors") < nbytes / 2


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 429, "headers": {"Retry-After": "0"}},
        {"status": 500, "times": 2},
        {"cut_after": 1000},
    ],
    ids=lambda fault: "-".join(map(str, fault)),
)
def test_passing_faults_are_waited_out(hub: Hub, client: Client, fault: dict[str, object]) -> None:
    files = one_file()
    hub.repo("org/model", files)
    hub.fault(r"GET .*\.safetensors", **fault)
    assert client.run(SURVEY)["tensors"] == expected(files)[0]
    hub.fault(r"GET /api/models/org/model", **fault)
    assert client.run(SURVEY)["tensors"] == expected(files)[0]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 1-100000/4000248"},
        {"Content-Range": "bytes 0-99999/5000000"},
        {"Content-Range": "bytes 0-99999/*"},
        {"Content-Range": "nonsense"},
        {"Content-Encoding": "gzip"},
    ],
    ids=lambda headers: next(iter(headers.values())),
)
def test_answer_with_another_range(hub: Hub, client: Client, headers: dict[str, str]) -> None:
    hub.repo("org/model", one_file())
    hub.fault(r"GET .*\.safetensors", headers=headers, times=9)
    answer = client.run("answer = told(lambda: HubSource('m', 'org/model').headers())")
    assert (answer["kind"], answer["exit"]) == ("SourceError", 5)
    assert "from the Hub, found" in answer["words"]


def test_hostile_header_is_refused_before_any_download(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {"model.safetensors": (2**60).to_bytes(8, "little") + b"x" * 10_000_000})
    answer = client.run("answer = told(lambda: HubSource('m', 'org/model').headers())")
    assert answer["kind"] == "IntegrityError"
    assert "at most 25,000,000 bytes" in answer["words"]
    assert hub.bytes_sent(".safetensors") == 100_000


@pytest.mark.parametrize("size", [0, 5, 9])
def test_file_too_short_to_be_one(hub: Hub, client: Client, size: int) -> None:
    hub.repo("org/model", {"model.safetensors": b"\x02" * size})
    answer = client.run("answer = told(lambda: HubSource('m', 'org/model').headers())")
    assert answer["kind"] == "IntegrityError"
