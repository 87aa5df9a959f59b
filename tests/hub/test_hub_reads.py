"""Weights through the client's cache: downloaded once, right bytes, one commit."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hub_models import one_file, sharded

from mdm_kit.sources import FolderSource, parse_header

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

READ_ALL = """
import hashlib
from concurrent.futures import ThreadPoolExecutor
with HubSource("m", "org/model", REVISION, download=True) as source:
    infos = list(source.headers().tensors.values())
    with ThreadPoolExecutor(4) as pool:
        reads = list(pool.map(source.read, infos * 3))
    answer = {
        "digests": {i.name: hashlib.sha256(r).hexdigest() for i, r in zip(infos, reads)},
        "files": {f.name: source.file_digest(f.name) for f in source.headers().files},
        "in_cache": [f.in_cache for f in source.headers().files],
        "sides": {n: source.side_file(n).decode() for n in source.side_files()},
        "commit": source.origin().commit,
    }
"""


def read_all(client: Client, revision: str | None = None, **options: object) -> dict[str, object]:
    return client.run(READ_ALL.replace("REVISION", repr(revision)), **options)


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {
        info.name: hashlib.sha256(data[slice(*info.span)]).hexdigest()
        for name, data in files.items()
        if name.endswith(".safetensors")
        for info in parse_header("m", name, data, len(data)).tensors
    }


@pytest.mark.parametrize("redirect", [False, True])
def test_every_byte_and_one_download_per_file(hub: Hub, client: Client, redirect: bool) -> None:
    files = sharded()
    commit = hub.repo("org/model", files, redirect=redirect)
    answer = read_all(client, token=True)
    assert answer["digests"] == digests(files)
    assert answer["files"] == {
        name: hashlib.sha256(data).hexdigest()
        for name, data in files.items()
        if name.endswith(".safetensors")
    }
    assert answer["sides"] == {
        "tokenizer.json": "{}",
        "additional_chat_templates/tool.jinja": "{{ x }}",
    }
    whole = [r for r in hub.log if r.method == "GET" and r.sent > 1_000_000]
    assert len(whole) == 2
    assert not any(r.authorized for r in hub.log if "/cdn/" in r.path)
    before = len(hub.log)
    again = read_all(client)
    assert again["in_cache"] == [True, True]
    assert {k: again[k] for k in ("digests", "files", "sides")} == {
        k: answer[k] for k in ("digests", "files", "sides")
    }
    assert [r.path for r in hub.log[before:]] == ["/api/models/org/model/revision/main"]
    snapshot = client.cache / "models--org--model" / "snapshots" / commit
    with FolderSource("m", snapshot) as folder:  # the cache's own folder, as a user may name it
        assert folder.headers().tensors.keys() == digests(files).keys()


def test_offline_after_one_read(hub: Hub, client: Client) -> None:
    commit = hub.repo("org/model", sharded())
    online = read_all(client)
    before = len(hub.log)
    for revision in (None, "main", commit, commit[:8]):
        offline = read_all(client, revision, HF_HUB_OFFLINE="1")
        assert offline == {**online, "in_cache": [True, True]}
    assert len(hub.log) == before


def test_declared_digest_is_known_offline(hub: Hub, client: Client) -> None:
    files = one_file()
    hub.repo("org/model", files)
    read_all(client)
    answer = client.run(
        "answer = HubSource('m', 'org/model').headers().files[0].sha256", HF_HUB_OFFLINE="1"
    )
    assert answer == hashlib.sha256(files["model.safetensors"]).hexdigest()


def test_offline_with_another_form_in_the_cache(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {"pytorch_model.bin": b"\x80\x04", "config.json": b"{}"})
    client.run(
        "from huggingface_hub import snapshot_download\nanswer = snapshot_download('org/model')"
    )
    answer = client.run(
        "answer = told(lambda: HubSource('m', 'org/model').headers())", HF_HUB_OFFLINE="1"
    )
    assert "found only pickles" in answer["words"]


@pytest.mark.parametrize("prepare", ["nothing", "config", "one shard"])
def test_offline_without_what_is_needed(hub: Hub, client: Client, prepare: str) -> None:
    hub.repo("org/model", {**sharded(), "config.json": b"{}"})
    if prepare != "nothing":
        client.run(
            "source = HubSource('m', 'org/model')\n"
            "source.side_file('config.json')\n"
            + "source = HubSource('m', 'org/model', download=True)\n"
            + ("source.read(source.headers().tensors['layer.1.weight'])\n" * (prepare != "config"))
            + "answer = None"
        )
    answer = client.run(
        "answer = told(lambda: HubSource('m', 'org/model').headers())", HF_HUB_OFFLINE="1"
    )
    assert answer["kind"] == "SourceError"
    assert "HF_HUB_OFFLINE" in answer["words"]
    assert "hf download org/model" in answer["words"]


def test_branch_that_moves_while_reading(hub: Hub, client: Client) -> None:
    """Another process moves it: the second commit is served the moment the first was surveyed."""
    old, new = one_file(1), one_file(2)
    first = hub.repo("org/model", old)
    second = hub.repos["org/model"].commit(new, branch="next")
    code = READ_ALL.replace("REVISION", "'main'").replace(
        "    infos =",
        "    source.headers()\n"
        "    import urllib.request, os\n"
        "    urllib.request.urlopen(os.environ['HF_ENDPOINT'] + '/move-main-to-next')\n"
        "    infos =",
    )
    hub.on_path["/move-main-to-next"] = lambda: hub.repos["org/model"].refs.update(main=second)
    answer = client.run(code)
    assert answer["commit"] == first
    assert answer["digests"] == digests(old) != digests(new)
    assert answer["sides"] == {"config.json": '{"seed": 1}'}


def test_download_cut_in_the_middle(hub: Hub, client: Client) -> None:
    files = one_file()
    hub.repo("org/model", files)
    client.run("answer = HubSource('m', 'org/model').headers() and 0")
    hub.fault(r"GET .*resolve.*\.safetensors", cut_after=100_001, times=2)
    assert read_all(client)["digests"] == digests(files)


def test_cached_copy_cut_short(hub: Hub, client: Client) -> None:
    hub.repo("org/model", one_file())
    read_all(client)
    for blob in (client.cache / "models--org--model" / "blobs").iterdir():
        if blob.stat().st_size > 1000:
            blob.write_bytes(blob.read_bytes()[:-1])
    answer = client.run("answer = told(lambda: HubSource('m', 'org/model').headers())")
    assert answer["kind"] == "IntegrityError"
    assert "hf cache rm model/org/model" in answer["words"]


@pytest.mark.parametrize("download", [False, True])
def test_bytes_that_are_not_what_was_surveyed(hub: Hub, client: Client, download: bool) -> None:
    """Same size, another header: a proxy that keeps an old file under a new name."""
    files = one_file()
    hub.repo("org/model", files)
    code = """
source = HubSource("m", "org/model", download=DOWNLOAD)
info = source.headers().tensors["big"]
import urllib.request, os
urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/swap")
answer = told(lambda: source.read(info))
"""
    swapped = files["model.safetensors"].replace(b'"big"', b'"gib"', 1)
    current = hub.repos["org/model"].commits[hub.repos["org/model"].refs["main"]].files
    blob = hub.objects.put("model.safetensors", swapped)
    hub.on_path["/swap"] = lambda: current.update({"model.safetensors": blob})
    answer = client.run(code.replace("DOWNLOAD", str(download)))
    assert answer["kind"] == "IntegrityError"
    words = "the header read before the download" if download else "the Hub declares"
    assert words in answer["words"]


@pytest.mark.parametrize("download", [False, True])
def test_closed_source_reads_no_more(hub: Hub, client: Client, download: bool) -> None:
    hub.repo("org/model", one_file())
    answer = client.run(
        f"source = HubSource('m', 'org/model', download={download})\n"
        "info = source.headers().tensors['small']\n"
        "source.read(info)\nsource.close()\nsource.close()\n"
        "answer = told(lambda: source.read(info))"
    )
    assert answer["kind"] == "UsageError"
