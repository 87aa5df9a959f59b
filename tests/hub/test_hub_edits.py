"""A published merge taken apart and extended from where it lies: the bytes are the folder's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from published import files_of, model, offer_models, publish, recipe
from test_hub_merge import run

from mdm_kit.ledger.entries import DeltasEntry
from mdm_kit.ledger.manifest import MANIFEST_NAME, Manifest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub


def merged(client: Client, hub: Hub, keep: str) -> dict[str, dict[str, bytes]]:
    """Merge the models on the Hub, publish the merge as you/merge; return the models' files."""
    files = offer_models(hub)
    (client.home / "r.yml").write_text(recipe(keep))
    works(client, "merge", "r.yml", "all")
    publish(hub, client.home / "all", "you/merge")
    return files


def works(client: Client, *words: str, **extra: str) -> str:
    answer = run(client, *words, **extra)
    assert answer["code"] == 0, answer["err"]
    return str(answer["out"])


def promised(client: Client, folder: str) -> dict[str, bytes]:
    """Every file but those that name the day or the merge that was edited."""
    files = files_of(client.home / folder)
    return {name: data for name, data in files.items() if name not in (MANIFEST_NAME, "README.md")}


def forget(client: Client, hub: Hub, tmp_path: Path, *repos: str) -> None:
    """Take repositories from the Hub and from the cache."""
    for repo in repos:
        del hub.repos[repo]
        for kept in client.cache.glob("models--" + repo.replace("/", "--")):
            kept.rename(tmp_path / kept.name)


@pytest.mark.parametrize("mode", ["rebuild", "exact", "subtract"])
def test_a_model_is_taken_out_as_from_the_folder(client: Client, hub: Hub, mode: str) -> None:
    merged(client, hub, "references")
    words = ("--drop", "b", "--mode", mode)
    works(client, "unmerge", "all", "near", *words)
    works(client, "unmerge", "you/merge@main", "far", *words)
    assert promised(client, "far") == promised(client, "near")
    works(client, "verify", "far")


def test_a_model_is_added_and_a_merge_made_again_as_from_the_folder(
    client: Client, hub: Hub
) -> None:
    merged(client, hub, "references")
    hub.repo("org/d", model(7))
    works(client, "add", "all", "near", "--model", "org/d")
    works(client, "add", "you/merge", "far", "--model", "org/d")
    assert promised(client, "far") == promised(client, "near")
    out = works(client, "verify", "--deep", "you/merge")
    assert "every tensor has the same bytes" in out


def test_kept_models_come_from_the_repository_beside_it(
    client: Client, hub: Hub, tmp_path: Path
) -> None:
    files = merged(client, hub, "deltas+base")
    assert "6 files, 8.9 MB, by the Hub's own digests" in works(client, "verify", "you/merge")
    forget(client, hub, tmp_path, "org/base", "org/a", "org/b", "org/c")
    works(client, "unmerge", "all", "near", "--drop", "b")
    (client.home / "all").rename(tmp_path / "all")
    works(client, "unmerge", "you/merge", "far", "--drop", "b")
    assert promised(client, "far") == promised(client, "near")
    for name in ("a", "base"):
        works(client, "extract", "you/merge", name, f"{name}-again")
        assert files_of(client.home / f"{name}-again") == files[name]
    client.stock(
        "from huggingface_hub import snapshot_download\n"
        "answer = [snapshot_download('you/merge'), snapshot_download('you/merge-deltas')]"
    )
    works(client, "extract", "you/merge", "a", "offline", HF_HUB_OFFLINE="1")
    assert files_of(client.home / "offline") == files["a"]


def test_a_repository_beside_it_that_holds_something_else_is_named(
    client: Client, hub: Hub, tmp_path: Path
) -> None:
    merged(client, hub, "deltas+base")
    forget(client, hub, tmp_path, "org/base", "org/a", "org/b", "org/c")
    files = files_of(client.home / "all")
    kept = {n: d for n, d in files.items() if n.startswith("deltas/")}
    damaged = bytearray(kept["deltas/001.safetensors"])
    damaged[len(damaged) // 2] ^= 1
    kept["deltas/001.safetensors"] = bytes(damaged)
    del kept["deltas/003.safetensors"]
    commit = hub.repo("you/bad-deltas", kept)
    entry = DeltasEntry("you/bad-deltas", commit)
    manifest = Manifest.from_bytes(files[MANIFEST_NAME]).published_with(entry)
    rest = {n: d for n, d in files.items() if not n.startswith("deltas/")}
    hub.repo("you/bad", {**rest, MANIFEST_NAME: manifest.to_bytes()})
    answer = run(client, "verify", "you/bad")
    assert answer["code"] == 4
    assert "deltas/001.safetensors: expected sha256:" in str(answer["err"])
    assert "deltas/003.safetensors: is missing" in str(answer["err"])
    answer = run(client, "extract", "you/bad", "a", "out")
    assert answer["code"] == 4
    assert "it is not the model that was kept" in str(answer["err"])
    answer = run(client, "extract", "you/bad", "c", "out")
    assert answer["code"] == 5
    assert "deltas/003.safetensors, which keeps it, is missing" in str(answer["err"])
    del hub.repos["you/bad-deltas"]
    answer = run(client, "verify", "you/bad")
    assert answer["code"] == 5
    assert "you/bad-deltas" in str(answer["err"])


def test_a_kept_model_that_came_damaged_is_not_believed(
    client: Client, hub: Hub, tmp_path: Path
) -> None:
    merged(client, hub, "deltas+base")
    forget(client, hub, tmp_path, "org/base", "org/a", "org/b", "org/c")
    hub.fault("GET .*you/merge-deltas/resolve/.*/001.safetensors", corrupt=True)
    answer = run(client, "unmerge", "you/merge", "out", "--drop", "b")
    assert answer["code"] == 4
    assert "deltas/001.safetensors: expected sha256:" in str(answer["err"])
    assert "hf cache rm" in str(answer["err"])
    assert not (client.home / "out").exists()


def test_a_download_of_the_merge_finds_its_kept_models_too(
    client: Client, hub: Hub, tmp_path: Path
) -> None:
    files = merged(client, hub, "deltas")
    whole = client.run("from huggingface_hub import snapshot_download as s; answer=s('you/merge')")
    forget(client, hub, tmp_path, "org/a")
    assert "by the Hub's own digests" in works(client, "verify", whole)
    works(client, "extract", whole, "a", "again")
    assert files_of(client.home / "again") == files["a"]


def test_a_published_merge_is_a_model_like_any_other(client: Client, hub: Hub) -> None:
    merged(client, hub, "references")
    text = "merge_method: linear\nmodels:\n  - {model: SOURCE, parameters: {weight: 1}}\n"
    for name, source in (("near", "./all"), ("far", "you/merge@main")):
        (client.home / f"{name}.yml").write_text(text.replace("SOURCE", source))
        works(client, "merge", f"{name}.yml", name)
    weights = "model.safetensors"
    assert promised(client, "far")[weights] == promised(client, "all")[weights]
    assert promised(client, "near")[weights] == promised(client, "far")[weights]
    assert "the same bits in every tensor" in works(client, "diff", "all", "you/merge@main")


PLACE = """
from pathlib import Path
from mdm_kit.bundle.verify import read_manifest
from mdm_kit.planner.parents import Parents
from mdm_kit.sources import FolderSite
site = FolderSite("all")
def opened(place):
    with Parents(site, read_manifest(site), {"a": place}) as parents:
        return told(lambda: parents.source("a"))
answer = {place: opened(place) for place in ("copies/a", "copies/c")}
"""


def test_a_place_given_on_the_hub_is_compared_by_the_hubs_own_digests(
    client: Client, hub: Hub
) -> None:
    files = merged(client, hub, "references")
    for name in ("a", "c"):
        hub.repo(f"copies/{name}", files[name])
    answer = client.run(PLACE)
    assert answer["copies/a"] is None
    assert answer["copies/c"]["exit"] == 4
    sent = [r.sent for r in hub.log if "copies/" in r.path and r.path.endswith(".safetensors")]
    assert sum(sent) <= 2 * 100_000, "headers alone"
