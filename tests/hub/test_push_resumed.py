"""Merging and publishing that was killed, refused or robbed goes on, and sends nothing twice."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from pushes import (
    SHARD,
    code_of,
    commit_beside,
    commits,
    fetched,
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
MERGE = ("merge", "r.yml", "out", "--shard-size", SHARD, "--push", REPO)


@pytest.fixture
def out(client: Client) -> Path:
    write_recipe(client.home)
    return client.home / "out"


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C, and answer only when the process is gone."""
    process.send_signal(signal.SIGINT)
    process.wait(20)


@pytest.mark.parametrize("xet", [False, True])
def test_interrupted_by_hand_it_ends_at_once_and_goes_on_later(
    client: Client, hub: Hub, out: Path, xet: bool
) -> None:
    program = f"import sys\nfrom mdm_kit.cli.main import run\nsys.argv[1:] = {MERGE}\nrun()"
    process = client.start(program, prelude="", token=True, xet=xet)
    where = "/xorbs/" if xet else "PUT "
    hub.fault(where, before=lambda: interrupt(process))
    _, err = process.communicate(timeout=15)
    assert process.returncode == 130, err
    assert "interrupted" in err
    ok(client, *MERGE, xet=xet)
    assert commits(hub) == 1


KILLS = [("PUT ", 0), ("PUT ", 1), ("PUT ", 4), ("/verify", 3), ("/commit/", 0)]


@pytest.mark.parametrize("flags", [(), ("--no-local",)], ids=["local", "no-local"])
@pytest.mark.parametrize(("where", "skip"), KILLS)
def test_killed_while_uploading_and_run_again(
    client: Client, hub: Hub, out: Path, where: str, skip: int, flags: tuple[str, ...]
) -> None:
    process = client.start(code_of(*MERGE, *flags), token=True)
    hub.fault(where, skip=skip, before=process.kill)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    told = ok(client, *MERGE, *flags)
    assert len(puts(hub)) == len({*puts(hub)}), "nothing that was stored is sent again"
    assert len(hub.repos[REPO].commits) == 2, "the first and ours"
    assert told["published"]["commit"] == hub.repos[REPO].refs["main"]
    assert mdm_kit.verify(fetched(hub, client.home / "got")).sound
    assert not work_folder(out).exists()
    assert out.exists() is not bool(flags)
    if out.exists():
        assert published(out).keys() == published(client.home / "got").keys()


@pytest.mark.parametrize("far", [False, True])
def test_a_commit_whose_answer_nobody_lived_to_hear(
    client: Client, hub: Hub, out: Path, far: bool
) -> None:
    """The commit stands and the work folder, too: the next run finds that out and ends.

    What the first has seen of models on the Hub, the second does not read again.
    """
    if far:
        for name in ("base", "m1", "m2"):
            files = {p.name: p.read_bytes() for p in (client.home / name).iterdir()}
            hub.repo(f"org/{name}", files)
        recipe = client.home / "r.yml"
        recipe.write_text(recipe.read_text().replace("./", "org/"))
    process = client.start(code_of(*MERGE, "--no-local"), token=True)
    hub.fault("/paths-info/", before=process.kill)
    process.communicate(timeout=60)
    assert work_folder(out).exists()
    assert commits(hub) == 1
    told = ok(client, *MERGE, "--no-local")
    assert told["published"]["changed"] is False
    assert commits(hub) == 1
    assert not work_folder(out).exists()


def test_a_finished_folder_is_pushed_and_not_made_again(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.fault("/commit/", status=403, times=99)
    said = run(client, *MERGE)
    assert said["code"] == 5
    assert "mdm-kit push" in said["err"]
    assert mdm_kit.verify(out).sound
    before = (out / "mdm_manifest.json").read_bytes()
    hub.faults.clear()
    said = run(client, *MERGE)
    assert said["code"] == 0, said["err"]
    assert "publishing it" in said["err"]
    assert (out / "mdm_manifest.json").read_bytes() == before
    assert len(puts(hub)) == len({*puts(hub)})
    assert commits(hub) == 1


def test_what_is_published_is_not_published_again_and_out_is_made(
    client: Client, hub: Hub, out: Path
) -> None:
    ok(client, *MERGE, "--no-local")
    told = ok(client, *MERGE)
    assert told["published"]["changed"] is False
    assert commits(hub) == 1
    assert mdm_kit.verify(out).sound
    said = run(client, *MERGE)
    assert "nothing to do" in said["err"]


def test_uploads_refused_for_good_leave_a_finished_folder(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.fault("objects/batch", status=403, times=99)
    said = run(client, *MERGE)
    assert said["code"] == 5
    assert mdm_kit.verify(out).sound
    assert set(remote_files(hub)) == {".gitattributes"}
    hub.faults.clear()
    ok(client, "push", "out", REPO)
    assert commits(hub) == 1


def test_a_repository_that_cannot_be_made_costs_no_merge(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.fault("/api/repos/create", status=403, times=99)
    said = run(client, *MERGE, "--no-local")
    assert said["code"] == 5
    assert work_folder(out).exists(), "to go on from"
    hub.log.clear()
    said = run(client, *MERGE)
    assert said["code"] == 5
    assert "mdm-kit push" in said["err"]
    assert mdm_kit.verify(out).sound
    assert len(hub.requests("/api/repos/create")) == 2, "for the first shard and at the end"
    hub.faults.clear()
    ok(client, "push", "out", REPO)


def test_without_a_local_copy_a_refused_upload_stops_the_merge_and_it_goes_on(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.fault("objects/batch", status=403, times=99, skip=2)
    said = run(client, *MERGE, "--no-local")
    assert said["code"] == 5, said["err"]
    stored = puts(hub)
    assert len(stored) == 2
    hub.faults.clear()
    ok(client, *MERGE, "--no-local")
    assert puts(hub)[:2] == stored
    assert len(puts(hub)) == len({*puts(hub)})
    assert mdm_kit.verify(fetched(hub, client.home / "got")).sound


def forget(hub: Hub, n: int = 1) -> None:
    """Let the Hub lose large files, as it may before a commit names them."""
    for path in puts(hub)[:n]:
        del hub.objects._known[path.split("/")[2]]


def test_lost_uploads_are_sent_again_from_the_folder(client: Client, hub: Hub, out: Path) -> None:
    hub.fault("/commit/", before=lambda: forget(hub))
    ok(client, *MERGE)
    assert len(puts(hub)) == len({*puts(hub)}) + 1
    assert commits(hub) == 1
    assert mdm_kit.verify(fetched(hub, client.home / "got")).sound


def test_lost_uploads_without_a_folder_are_made_anew_by_the_next_run(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.fault("/commit/", before=lambda: forget(hub))
    said = run(client, *MERGE, "--no-local")
    assert said["code"] == 5
    assert "Run the same command again" in said["err"]
    ok(client, *MERGE, "--no-local")
    assert len(puts(hub)) == len({*puts(hub)}) + 1
    assert mdm_kit.verify(fetched(hub, client.home / "got")).sound


def test_what_somebody_changed_on_the_hub_is_put_right(client: Client, hub: Hub, out: Path) -> None:
    ok(client, *MERGE)
    shard = next(name for name in remote_files(hub) if name.startswith("model-"))
    commit_beside(hub, {shard: b"theirs"})
    ok(client, *MERGE)
    assert commits(hub) == 2
    there = remote_files(hub)
    there.pop(".gitattributes")
    assert there == published(out)


def test_a_branch_that_moved_meanwhile(client: Client, hub: Hub, out: Path) -> None:
    hub.fault("/commit/", before=lambda: commit_beside(hub, {"LICENSE": b"theirs"}))
    said = run(client, *MERGE, "--no-local")
    assert (said["code"], "moved" in said["err"]) == (5, True)
    sent = puts(hub)
    ok(client, *MERGE, "--no-local")
    assert puts(hub) == sent
    assert remote_files(hub)["LICENSE"] == b"theirs"
