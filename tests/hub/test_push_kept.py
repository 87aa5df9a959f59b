"""Kept models go to a repository beside the merge's, and an older merge's card leads to the new."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from pushes import (
    code_of,
    commit_beside,
    commits,
    merge,
    ok,
    puts,
    remote_files,
    run,
    write_recipe,
)

from mdm_kit.ledger.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub
REPO, KEPT = "tester/merged", "tester/merged-deltas"


@pytest.fixture
def out(client: Client) -> Path:
    write_recipe(client.home, more="ledger: {keep: deltas}\n")
    return merge(client.home)


def manifest(hub: Hub) -> Manifest:
    return Manifest.from_bytes(remote_files(hub)["mdm_manifest.json"])


def test_kept_models_are_published_beside_and_named(client: Client, hub: Hub, out: Path) -> None:
    told = ok(client, "push", "out", REPO, "--public")
    assert told["deltas"] == KEPT
    assert set(remote_files(hub, KEPT)) == {
        ".gitattributes",
        "deltas/001.safetensors",
        "deltas/002.safetensors",
    }
    assert not hub.repos[KEPT].private
    named = manifest(hub).deltas
    assert named is not None
    assert (named.repo, named.commit) == (KEPT, hub.repos[KEPT].refs["main"])
    assert not any(name.startswith("deltas/") for name in remote_files(hub))
    assert run(client, "verify", REPO)["code"] == 0
    assert run(client, "extract", REPO, "m1", "got", "--source", "base=base")["code"] == 0
    got, was = (client.home / n / "model.safetensors" for n in ("got", "m1"))
    assert got.read_bytes() == was.read_bytes()


@pytest.mark.parametrize("words", [("push", "kept"), ("merge", "r.yml", "new", "--push")])
def test_a_secret_inside_a_kept_model_is_not_published(
    client: Client, hub: Hub, out: Path, words: tuple[str, ...]
) -> None:
    secret = "hf_" + "A1b2" * 10
    (client.home / "m2" / "config.json").write_text(f'{{"note": "{secret}"}}')
    if words[0] == "push":
        merge(client.home, "kept")
    said = run(client, *words, REPO)
    assert said["code"] == 2, said["err"]
    assert "deltas/002.safetensors: config.json, line 1" in said["err"]
    assert secret not in said["err"]
    assert not {KEPT, REPO} & {n for n in hub.repos if commits(hub, n)}
    assert KEPT not in hub.repos


def test_again_nothing_happens_even_where_the_other_repository_moved(
    client: Client, hub: Hub, out: Path
) -> None:
    ok(client, "push", "out", REPO)
    commit_beside(hub, {"README.md": b"theirs"}, KEPT)
    assert ok(client, "push", "out", REPO)["changed"] is False
    assert (commits(hub), commits(hub, KEPT)) == (1, 1)


def test_kept_models_that_are_gone_are_published_again(client: Client, hub: Hub, out: Path) -> None:
    ok(client, "push", "out", REPO)
    del hub.repos[KEPT]
    assert ok(client, "push", "out", REPO)["changed"] is True
    assert set(remote_files(hub, KEPT)) >= {"deltas/001.safetensors"}
    assert run(client, "verify", REPO)["code"] == 0


@pytest.mark.parametrize(
    "words", [("push", "out"), ("merge", "r.yml", "new", "--push"), ("plan", "r.yml", "--push")]
)
def test_two_repositories_that_are_not_alike_are_told_before_anything_is_read(
    client: Client, hub: Hub, out: Path, words: tuple[str, ...]
) -> None:
    hub.repo(KEPT, {"LICENSE": b""})
    said = run(client, *words, REPO)
    assert said["code"] == 2
    assert f"{KEPT}, where this merge's kept models go, is public" in said["err"]
    assert REPO not in hub.repos
    hub.repos[KEPT].private = True
    ok(client, *words, REPO)


def test_without_a_local_copy(client: Client, hub: Hub, out: Path) -> None:
    for _ in range(2):
        told = ok(client, "merge", "r.yml", "other", "--push", REPO, "--no-local")
        assert told["published"]["deltas"] == KEPT
    assert not (client.home / "other").exists()
    assert run(client, "verify", REPO)["code"] == 0


@pytest.mark.parametrize("flags", [(), ("--no-local",)], ids=["local", "no-local"])
@pytest.mark.parametrize("where", ["PUT ", f"{KEPT}/commit/", f"{KEPT}/paths-", f"{REPO}/commit/"])
def test_killed_between_the_two_repositories_and_run_again(
    client: Client, hub: Hub, out: Path, where: str, flags: tuple[str, ...]
) -> None:
    words = ("merge", "r.yml", "new", "--push", REPO, *flags)
    process = client.start(code_of(*words), token=True)
    hub.fault(where, before=process.kill)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    ok(client, *words)
    assert [len(hub.repos[name].commits) for name in (REPO, KEPT)] == [2, 2], "first and ours"
    assert len(puts(hub)) == len({*puts(hub)}), "nothing that was stored is sent again"
    assert run(client, "verify", REPO)["code"] == 0


def test_an_older_card_leads_to_what_is_left(client: Client, hub: Hub, out: Path) -> None:
    ok(client, "push", "out", REPO)
    hub.repos[REPO].private = False
    places = [w for n in ("base", "m1", "m2") for w in ("--source", f"{n}={client.home / n}")]
    said = run(client, "unmerge", REPO, "rest", "--drop", "m2", *places)
    assert said["code"] == 0, said["err"]
    assert f"mdm-kit push rest NEW/REPO --supersedes {REPO}" in said["out"]
    before = remote_files(hub)
    for _ in range(2):
        ok(client, "push", "rest", "tester/rest", "--supersedes", REPO)
    after = remote_files(hub)
    card = after.pop("README.md").decode()
    assert card.count("new_version: tester/rest\n") == 1
    assert card.replace("new_version: tester/rest\n", "") == before.pop("README.md").decode()
    assert after == before
    assert commits(hub) == 2
    assert run(client, "verify", REPO)["code"] == 0


def test_only_an_unmerge_supersedes(client: Client, hub: Hub, out: Path) -> None:
    hub.repo("tester/old", {"README.md": b"# Old\n"})
    said = run(client, "push", "out", REPO, "--supersedes", "tester/old")
    assert (said["code"], "nothing was taken out" in said["err"]) == (2, True)
    assert REPO not in hub.repos
