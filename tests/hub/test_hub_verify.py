"""A published merge checked where it lies: no weight downloaded, every harm named all the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from published import files_of, offer_models, publish, recipe
from safetensors.numpy import load, save
from test_hub_merge import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

SHARD = "model-00001-of-00002.safetensors"
FAULTS = """
import mdm_kit
answer = {repo: list(mdm_kit.verify(repo).faults) for repo in REPOS}
"""
Files = dict[str, bytes]


@pytest.fixture
def merge(client: Client, hub: Hub) -> Files:
    """The files of a merge in two shards, published as you/merge too."""
    offer_models(hub)
    (client.home / "r.yml").write_text(recipe())
    answer = run(client, "merge", "r.yml", "all", "--shard-size", "1300kB")
    assert answer["code"] == 0, answer["err"]
    publish(hub, client.home / "all", "you/merge")
    return files_of(client.home / "all")


def weight_bytes(hub: Hub, asked: int) -> int:
    return sum(r.sent for r in hub.log[asked:] if "/model-0" in r.path and ".json" not in r.path)


def test_no_weight_is_downloaded_and_the_output_says_what_was_checked_how(
    client: Client, hub: Hub, merge: Files
) -> None:
    asked = len(hub.log)
    answer = run(client, "verify", "you/merge@main")
    assert answer["code"] == 0, answer["err"]
    assert not list(client.cache.glob("models--you--merge/**/model-0*.safetensors"))
    assert weight_bytes(hub, asked) <= 2 * 100_000, "headers alone"
    assert "3 files, 2.4 MB, by the Hub's own digests" in str(answer["out"])
    assert "by every byte" in str(answer["out"])
    assert "unmerge --mode rebuild" in str(answer["out"])
    at = [r for r in hub.log[asked:] if "/resolve/" in r.path]
    assert {r.path.split("/resolve/")[1].split("/")[0] for r in at} == {commit(client)}
    assert run(client, "verify", "all")["code"] == 0


def commit(client: Client) -> str:
    found = json.loads(str(run(client, "verify", "you/merge", "--json")["out"]))
    assert found["sound"]
    assert found["by_hub_digest"]["n_files"] == 3
    repo, _, commit = found["pinned"].partition("@")
    assert repo == "you/merge"
    return str(commit)


def flipped(name: str, at: int) -> Callable[[Files], None]:
    def harm(files: Files) -> None:
        data = bytearray(files[name])
        data[at] ^= 1
        files[name] = bytes(data)

    return harm


def other_tensor(files: Files) -> None:
    tensors = load(files[SHARD])
    tensors["layers.9.w"] = tensors.pop("layers.0.w")
    files[SHARD] = save(tensors, {"format": "pt"})
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"]["layers.9.w"] = index["weight_map"].pop("layers.0.w")
    files["model.safetensors.index.json"] = json.dumps(index).encode()


HARMS: dict[str, tuple[Callable[[Files], Any], str]] = {
    "weight": (flipped(SHARD, -1), f"{SHARD}: expected sha256:"),
    "config": (flipped("config.json", 0), "config.json: expected sha256:"),
    "ledger": (flipped("mdm_ledger.safetensors", -1), "mdm_ledger.safetensors: expected sha256:"),
    "tensor": (other_tensor, "layers.9.w is not in the manifest"),
    "gone": (lambda files: files.pop(SHARD), f"{SHARD}: is missing"),
    "no-config": (lambda files: files.pop("config.json"), "config.json: is missing"),
    "size": (lambda files: files.update({SHARD: files[SHARD] + b"x"}), "bytes, found"),
    "pickle": (lambda files: files.update({"pytorch_model.bin": b"x"}), "pytorch_model.bin: is a"),
    "code": (lambda files: files.update({"modeling.py": b"x"}), "modeling.py: is a file"),
    "stray": (lambda f: f.update({"model.safetensors": f[SHARD]}), "model.safetensors: is a file"),
}


def test_every_harm_is_named(client: Client, hub: Hub, merge: Files) -> None:
    for name, (harm, _) in HARMS.items():
        files = dict(merge)
        harm(files)
        hub.repo(f"you/{name}", files)
    lfs = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
    hub.repo("you/card", {**merge, "README.md": b"my own words", ".gitattributes": lfs})
    asked = len(hub.log)
    repos = [f"you/{name}" for name in (*HARMS, "card")]
    found = client.run(FAULTS.replace("REPOS", repr(repos)))
    for name, (_, words) in HARMS.items():
        assert words in "\n".join(found[f"you/{name}"]), name
    assert found["you/card"] == []
    assert weight_bytes(hub, asked) <= len(repos) * 2 * 100_000
    answer = run(client, "verify", "you/weight")
    assert answer["code"] == 4
    assert answer["out"] == ""


def test_a_file_without_a_declared_digest_is_read_if_it_is_small(
    client: Client, hub: Hub, merge: Files
) -> None:
    code = "import mdm_kit.bundle.verify as v; v.MAX_UNDECLARED_NBYTES = 10\n" + FAULTS
    (fault,) = client.run(code.replace("REPOS", "['you/merge']"))["you/merge"][:1]
    assert "expected its sha256 from the Hub, found none" in fault


def test_a_hub_out_of_order_is_no_fault_of_the_merge(
    client: Client, hub: Hub, merge: Files
) -> None:
    hub.fault(f"GET .*{SHARD}", status=503, times=20)
    answer = run(client, "verify", "you/merge")
    assert (answer["code"], answer["out"]) == (5, "")
    assert "out of order" in str(answer["err"])
    assert "fault:" not in str(answer["err"])


@pytest.mark.parametrize(
    ("where", "code", "words"),
    [
        ("org/a", 5, "org/a has no mdm_manifest.json"),
        ("you/none", 5, "no such folder here, and no such repository"),
        ("you/merge@v9", 5, "no branch, tag or commit 'v9'"),
        ("you/merge@..", 5, "expected a branch, tag or commit"),
        ("you/gated", 5, "access is gated"),
        ("no-folder", 5, "there is no folder no-folder"),
        ("./you/merge", 5, "there is no folder ./you/merge"),
        ("there/is@main", 5, "a folder has no revisions"),
        ("there/is", 5, "there/is has no mdm_manifest.json"),
    ],
)
def test_what_cannot_be_had_ends_with_its_code(
    client: Client, hub: Hub, where: str, code: int, words: str
) -> None:
    offer_models(hub)
    hub.repo("you/merge", {"config.json": b"{}"})
    hub.repo("you/gated", {"config.json": b"{}", "mdm_manifest.json": b"{}"}, gated="manual")
    hub.repo("there/is", {"config.json": b"{}", "mdm_manifest.json": b"{}"})
    (client.home / "there" / "is").mkdir(parents=True)
    answer = run(client, "verify", where)
    assert (answer["code"], answer["out"]) == (code, ""), answer["err"]
    assert words in str(answer["err"])


def test_offline_the_cache_stands_in(client: Client, hub: Hub, merge: Files) -> None:
    assert run(client, "verify", "you/merge")["code"] == 0
    answer = run(client, "verify", "you/merge", HF_HUB_OFFLINE="1")
    assert answer["code"] == 5, "weights were never downloaded"
    assert "in the Hugging Face cache" in str(answer["err"])
    download = "from huggingface_hub import snapshot_download as s; answer = s('you/merge')"
    snapshot = client.run(download)
    asked = len(hub.log)
    answer = run(client, "verify", "you/merge", HF_HUB_OFFLINE="1")
    assert answer["code"] == 0, answer["err"]
    answer = run(client, "verify", snapshot, HF_HUB_OFFLINE="1")
    assert answer["code"] == 0, answer["err"]
    assert "every byte\n" in str(answer["out"])
    assert len(hub.log) == asked


def test_inspect_reads_headers_and_the_manifest_only(
    client: Client, hub: Hub, merge: Files
) -> None:
    asked = len(hub.log)
    answer = run(client, "inspect", "you/merge")
    assert answer["code"] == 0, answer["err"]
    assert "you/merge@" in str(answer["out"])
    assert "mdm_oc" in str(answer["out"])
    assert weight_bytes(hub, asked) <= 2 * 100_000
    answer = run(client, "inspect", "org/a", "--json")
    found = json.loads(str(answer["out"]))
    assert found["manifest"] is None
    assert len(found["tensors"]) == 4
