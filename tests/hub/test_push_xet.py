"""The same by Xet, the stock client's usual way, which sends chunks instead of files."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from pushes import (
    SHARD,
    code_of,
    commits,
    fetched,
    merge,
    ok,
    published,
    puts,
    remote_files,
    run,
    write_recipe,
)

import mdm_kit
from mdm_kit.bundle.stage import work_folder

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub
REPO = "tester/merged"
PUSH = ("push", "out", REPO)
MERGE = ("merge", "r.yml", "out", "--shard-size", SHARD, "--push", REPO)


@pytest.fixture
def home(client: Client) -> Path:
    write_recipe(client.home)
    return client.home


def xorbs(hub: Hub) -> list[str]:
    """Return what was sent and stored, one for each time."""
    return [r.path for r in hub.log if "/xorbs/" in r.path and r.status == 200]


def same_as(hub: Hub, folder: Path) -> bool:
    there = remote_files(hub)
    there.pop(".gitattributes")
    return there == published(folder)


def test_one_commit_and_none_the_second_time(client: Client, hub: Hub, home: Path) -> None:
    out = merge(home)
    assert ok(client, *PUSH, xet=True)["changed"] is True
    assert same_as(hub, out)
    assert xorbs(hub)
    assert puts(hub) == []
    hub.log.clear()
    assert ok(client, *PUSH, xet=True)["changed"] is False
    assert xorbs(hub) == []


@pytest.mark.parametrize(("where", "skip"), [("/xorbs/", 0), ("/xorbs/", 3), ("/commit/", 0)])
@pytest.mark.parametrize(
    "words", [PUSH, MERGE, (*MERGE, "--no-local")], ids=["push", "merge", "no-local"]
)
def test_killed_and_run_again(
    client: Client, hub: Hub, home: Path, words: tuple[str, ...], where: str, skip: int
) -> None:
    if words == PUSH:
        merge(home)
    process = client.start(code_of(*words), token=True, xet=True)
    hub.fault(where, skip=skip, before=process.kill)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    ok(client, *words, xet=True)
    assert len(hub.repos[REPO].commits) == 2, "the first and ours"
    twice = len(xorbs(hub)) - len({*xorbs(hub)})
    assert twice <= (where == "/xorbs/"), "at most what was on its way when the client died"
    assert not work_folder(home / "out").exists()
    if "--no-local" not in words:
        assert same_as(hub, home / "out")


def test_a_refused_upload_is_told(client: Client, hub: Hub, home: Path) -> None:
    merge(home)
    hub.fault("/xorbs/", status=403, times=99)
    said = run(client, *PUSH, xet=True)
    assert said["code"] == 5
    assert hub.url not in said["err"]
    assert commits(hub) == 0


def test_no_local_by_xet_keeps_nothing_here(client: Client, hub: Hub, home: Path) -> None:
    ok(client, *MERGE, "--no-local", xet=True)
    assert not (home / "out").exists()
    assert mdm_kit.verify(fetched(hub, home / "got")).sound
