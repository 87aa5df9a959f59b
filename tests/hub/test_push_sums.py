"""Kept sums are published beside the merge: in order, once, whatever stops the push between."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from pushes import code_of, commits, ok, puts, remote_files, run
from summed import KEPT, METHODS, REPO, SHARD, Family, add, manifest, promised, pushed

from mdm_kit.bundle.stage import work_folder

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub


def published(hub: Hub) -> dict[str, bytes]:
    """Return what the merge's two repositories hold together."""
    both = remote_files(hub, REPO) | remote_files(hub, KEPT)
    said = (".gitattributes", "README.md", "mdm_manifest.json")
    return {n: d for n, d in both.items() if n not in said and not n.endswith(".yml")}


@pytest.mark.parametrize("method", METHODS)
def test_sums_are_sent_first_and_named_and_nothing_is_sent_twice(
    client: Client, hub: Hub, method: str
) -> None:
    family = Family(hub, client)
    recipe = family.recipe(method, [1, 2])
    told = pushed(client, recipe)
    assert told["published"]["deltas"] == KEPT  # type: ignore[index]
    made = [r.path for r in hub.log if "/commit/" in r.path and r.status == 200]
    assert [p.split("/commit/")[0] for p in made] == [f"/api/models/{n}" for n in (KEPT, REPO)]
    named = manifest(hub)
    assert named.deltas is not None
    assert named.sums is not None
    assert (named.deltas.repo, named.deltas.commit) == (KEPT, hub.repos[KEPT].refs["main"])
    kept = {n for n in remote_files(hub, KEPT) if n != ".gitattributes"}
    assert kept == set(named.sums.files)
    assert len(kept) == len(named.shards) > 1
    assert not any(n.startswith("deltas/") for n in remote_files(hub, REPO))
    assert published(hub) == family.here(method, [1, 2])
    before = puts(hub)
    for words in (("push", "first", REPO), ("merge", recipe, "first", "--push", REPO)):
        ok(client, *words, *(("--shard-size", f"{SHARD}B") if words[0] == "merge" else ()))
    assert puts(hub) == before
    assert [commits(hub, name) for name in (REPO, KEPT)] == [1, 1]
    del hub.repos[KEPT]
    pushed(client, recipe)
    assert published(hub) == family.here(method, [1, 2])


@pytest.mark.parametrize("method", METHODS)
def test_without_a_local_copy_the_sums_are_what_lies_here(
    client: Client, hub: Hub, method: str
) -> None:
    """All sums lie here until they are sent, with two shards at most."""
    family = Family(hub, client)
    work, seen = work_folder(client.home / "first"), []

    def look() -> None:
        files = {p.stat().st_ino: p.stat().st_size for p in work.rglob("*.safetensors")}
        seen.append(sum(files.values()))

    for _ in range(40):
        hub.fault("PUT ", before=look)
    pushed(client, family.recipe(method, [1, 2]), "--no-local")
    assert not (client.home / "first").exists()
    assert not work.exists()
    named = manifest(hub)
    assert named.sums is not None
    sums = sum(named.files[n].nbytes for n in named.sums.files)
    shards = sorted(entry.nbytes for entry in named.shards.values())
    assert sums <= max(seen) <= sums + sum(shards[-2:])
    hub.faults.clear()
    before = puts(hub)
    pushed(client, "r.yml", "--no-local")
    assert puts(hub) == before
    assert published(hub) == family.here(method, [1, 2])


@pytest.mark.parametrize(
    ("where", "flags"),
    [
        ("PUT ", ("--no-local",)),
        (f"{KEPT}/commit/", ()),
        (f"{KEPT}/paths-", ("--no-local",)),
        (f"{REPO}/commit/", ("--no-local",)),
    ],
    ids=["sending", "before", "between", "after"],
)
def test_killed_between_the_two_repositories_and_run_again(
    client: Client, hub: Hub, where: str, flags: tuple[str, ...]
) -> None:
    family = Family(hub, client)
    recipe = family.recipe("opcm", [1, 2])
    words = ("merge", recipe, "first", "--push", REPO, "--shard-size", f"{SHARD}B", *flags)
    process = client.start(code_of(*words), token=True)
    hub.fault(where, before=process.kill, skip=2 if where == "PUT " else 0)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    ok(client, *words)
    assert [len(hub.repos[name].commits) for name in (REPO, KEPT)] == [2, 2], "first and ours"
    assert len(puts(hub)) == len({*puts(hub)}), "nothing that was stored is sent again"
    assert published(hub) == family.here("opcm", [1, 2])
    assert run(client, "verify", REPO)["code"] == 0


@pytest.mark.parametrize(
    "words", [("merge", "r.yml", "new", "--push"), ("plan", "r.yml", "--push")]
)
def test_two_repositories_that_are_not_alike_are_told_before_anything_is_read(
    client: Client, hub: Hub, words: tuple[str, ...]
) -> None:
    Family(hub, client).recipe("opcm", [1, 2])
    hub.repo(KEPT, {"LICENSE": b""})
    said = run(client, *words, REPO)
    assert said["code"] == 2
    assert f"{KEPT}, where this merge's kept models go, is public" in said["err"]
    assert REPO not in hub.repos
    assert not (client.home / "new").exists()


def test_the_same_sums_in_a_folder_that_was_downloaded(client: Client, hub: Hub) -> None:
    """Whoever has both repositories in one folder has the merge as it was made."""
    family = Family(hub, client)
    pushed(client, family.recipe("covmerge", [1]))
    both = client.home / "both"
    for name, data in (remote_files(hub, REPO) | remote_files(hub, KEPT)).items():
        (both / name).parent.mkdir(parents=True, exist_ok=True)
        (both / name).write_bytes(data)
    del hub.repos[REPO], hub.repos[KEPT]
    family.forget("m1")
    add(client, "covmerge", "both", "two", 2)
    assert promised(client.home / "two") == family.here("covmerge", [1, 2])
