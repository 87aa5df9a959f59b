"""What becomes of a push when answers are lost, others commit, or the Hub is out of order."""

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
    published,
    puts,
    remote_files,
    run,
    write_recipe,
)

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub
REPO = "tester/merged"
COMMIT = f"POST /api/models/{REPO}/commit/main"


@pytest.fixture
def out(client: Client) -> Path:
    write_recipe(client.home)
    return merge(client.home)


@pytest.mark.parametrize(
    "how", [{"status": 504, "lost": True}, {"status": 200, "lost": True}, {"cut_after": 0}]
)
def test_a_lost_answer_is_looked_for_on_the_branch(
    client: Client, hub: Hub, out: Path, how: dict[str, int]
) -> None:
    hub.fault(COMMIT, **how)
    told = ok(client, "push", "out", REPO)
    assert told["commit"] == hub.repos[REPO].refs["main"]
    there = remote_files(hub)
    there.pop(".gitattributes")
    assert there == published(out)
    assert len(hub.repos[REPO].commits) == 2, "the first and ours"


def test_an_answer_that_makes_no_sense_and_nothing_done_is_told(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.fault(COMMIT, status=200)
    said = run(client, "push", "out", REPO)
    assert (said["code"], "out of order" in said["err"]) == (5, True)
    assert set(remote_files(hub)) == {".gitattributes"}


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_a_commit_that_did_not_happen_is_tried_again(
    client: Client, hub: Hub, out: Path, status: int
) -> None:
    hub.fault(COMMIT, status=status, times=2)
    ok(client, "push", "out", REPO)
    assert commits(hub) == 1


def test_a_hub_that_stays_away_is_told_and_the_next_run_sends_no_shard(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.fault(COMMIT, status=503, times=3)
    said = run(client, "push", "out", REPO)
    assert said["code"] == 5
    assert "HTTP 503" in said["err"]
    sent = puts(hub)
    ok(client, "push", "out", REPO)
    assert puts(hub) == sent
    assert commits(hub) == 1


def test_somebody_elses_commit_meanwhile_fails_the_push_whole(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.fault(COMMIT, before=lambda: commit_beside(hub, {"LICENSE": b"theirs"}))
    said = run(client, "push", "out", REPO)
    assert said["code"] == 5
    assert "moved" in said["err"]
    assert "Nothing was changed" in said["err"]
    assert set(remote_files(hub)) == {".gitattributes", "LICENSE"}
    sent = puts(hub)
    ok(client, "push", "out", REPO)
    assert puts(hub) == sent
    assert remote_files(hub)["LICENSE"] == b"theirs"


def test_an_upload_that_fails_for_a_while_is_waited_for(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.fault("POST .*/preupload/", status=503, skip=1)
    hub.fault("POST .*/objects/batch", status=429, headers={"Retry-After": "0"})
    hub.fault("PUT ", status=500)
    hub.fault("PUT ", cut_upload=100, skip=2)
    ok(client, "push", "out", REPO)
    assert commits(hub) == 1


@pytest.mark.parametrize("where", ["POST .*/objects/batch", "PUT "])
def test_an_upload_refused_for_good_changes_nothing(
    client: Client, hub: Hub, out: Path, where: str
) -> None:
    hub.fault(where, status=403, times=99)
    said = run(client, "push", "out", REPO)
    assert said["code"] == 5
    assert "HTTP 403" in said["err"]
    assert hub.url not in said["err"]
    assert commits(hub) == 0


def test_a_wrong_byte_that_arrived_is_found(client: Client, hub: Hub, out: Path) -> None:
    hub.fault(
        "POST .*/paths-info/",
        before=lambda: hub.repos[REPO].commits.__setitem__(
            hub.repos[REPO].refs["main"],
            hub.repos[REPO].commits[hub.repos[REPO].commit({"config.json": b"other"})],
        ),
    )
    said = run(client, "push", "out", REPO)
    assert said["code"] == 4
    assert "does not hold the bytes" in said["err"]


WRITES = r"^(PUT |POST .*/(preupload|objects/batch|verify|create))"


@pytest.mark.parametrize(
    ("where", "skip"), [(WRITES, 0), (WRITES, 2), (WRITES, 7), (WRITES, 20), ("POST .*/commit/", 0)]
)
def test_killed_at_any_request_and_run_again(
    client: Client, hub: Hub, out: Path, where: str, skip: int
) -> None:
    process = client.start(code_of("push", "out", REPO), token=True)
    hub.fault(where, skip=skip, before=process.kill)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    ok(client, "push", "out", REPO)
    assert len(puts(hub)) == len({*puts(hub)}), "nothing that was stored is sent again"
    assert len(hub.repos[REPO].commits) == 2, "the first and ours"
    there = remote_files(hub)
    there.pop(".gitattributes")
    assert there == published(out)
