"""A finished folder becomes one commit, and the same folder none."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from pushes import (
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
from server import FINE_TOKEN, OTHER_TOKEN, READ_TOKEN, TOKEN, Account

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub
REPO = "tester/merged"


@pytest.fixture
def out(client: Client) -> Path:
    write_recipe(client.home)
    return merge(client.home)


def test_one_commit_holds_the_folder_and_nothing_of_this_machine(
    client: Client, hub: Hub, out: Path
) -> None:
    told = ok(client, "push", "out", REPO)
    there = remote_files(hub)
    assert there.pop(".gitattributes")
    assert there == published(out)
    assert (out / ".mdm_local.json").exists()
    assert hub.repos[REPO].private
    assert (told["repo"], told["private"], told["changed"]) == (REPO, True, True)
    assert told["commit"] == hub.repos[REPO].refs["main"]
    assert commits(hub) == 1
    assert len(puts(hub)) == len({*puts(hub)})


def test_the_same_again_sends_nothing_and_commits_nothing(
    client: Client, hub: Hub, out: Path
) -> None:
    first = ok(client, "push", "out", REPO)
    hub.log.clear()
    again = ok(client, "push", "out", REPO)
    assert (again["changed"], again["commit"]) == (False, first["commit"])
    assert commits(hub) == 0
    assert puts(hub) == []
    said = run(client, "push", "out", REPO)
    assert "held it already" in said["out"]


def test_a_person_reads_where_it_is_and_how_to_check_it(
    client: Client, hub: Hub, out: Path
) -> None:
    said = run(client, "push", "out", REPO, "--public", "--message", "First light")
    assert said["code"] == 0, said["err"]
    head = hub.repos[REPO].refs["main"]
    assert f"{REPO}@{head}" in said["out"]
    assert "everybody" in said["out"]
    assert not hub.repos[REPO].private
    assert hub.repos[REPO].commits[head].title == "First light"


def test_a_branch_is_made_from_main(client: Client, hub: Hub, out: Path) -> None:
    ok(client, "push", "out", REPO, "--revision", "release/v2")
    assert set(remote_files(hub)) == {".gitattributes"}
    assert "model.safetensors.index.json" in remote_files(hub, revision="release/v2")


def test_a_branch_that_would_begin_with_somebody_elses_model_is_not_made(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.repo(REPO, {"model.safetensors": b"theirs"})
    for words in (("plan", "r.yml"), ("push", "out", REPO, "--revision", "v2")):
        more = f"push: {{repo: {REPO}, revision: v2}}\n" if words[0] == "plan" else ""
        with (client.home / "r.yml").open("a") as recipe:
            recipe.write(more)
        said = run(client, *words)
        assert (said["code"], "model.safetensors" in said["err"]) == (2, True)
    assert set(hub.repos[REPO].refs) == {"main"}


def test_files_of_an_earlier_merge_go_and_others_stay(client: Client, hub: Hub, out: Path) -> None:
    ok(client, "push", "out", REPO)
    commit_beside(hub, {"LICENSE": b"mine", "picture.png": b"\x89PNG"})
    shutil.rmtree(out)
    whole = merge(client.home, shard_nbytes=10**9)
    ok(client, "push", "out", REPO)
    there = remote_files(hub)
    assert {there.pop(n) for n in ("LICENSE", "picture.png")} == {b"mine", b"\x89PNG"}
    there.pop(".gitattributes")
    assert there == published(whole)
    assert commits(hub) == 2


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "x.py"])
def test_somebody_elses_model_is_refused_before_any_upload(
    client: Client, hub: Hub, out: Path, name: str
) -> None:
    head = hub.repo(REPO, {name: b"{}"})
    said = run(client, "push", "out", REPO)
    assert said["code"] == 2
    assert name in said["err"]
    assert hub.repos[REPO].refs["main"] == head
    assert puts(hub) == []


def test_a_file_beside_an_earlier_merge_that_loaders_would_read_is_refused(
    client: Client, hub: Hub, out: Path
) -> None:
    ok(client, "push", "out", REPO)
    commit_beside(hub, {"adapter_model.safetensors": b"x"})
    said = run(client, "push", "out", REPO)
    assert (said["code"], "adapter_model.safetensors" in said["err"]) == (2, True)


def test_a_changed_byte_is_never_published(client: Client, hub: Hub, out: Path) -> None:
    shard = min(out.glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    said = run(client, "push", "out", REPO)
    assert said["code"] == 4
    assert shard.name in said["err"]
    assert REPO not in hub.repos


def test_a_secret_is_never_published_nor_shown(client: Client, hub: Hub, out: Path) -> None:
    secret = "hf_" + "A1b2" * 10
    card = out / "README.md"
    card.write_text(card.read_text() + f"\nuse {secret}\n")
    said = run(client, "push", "out", REPO)
    assert said["code"] == 2
    assert "README.md, line" in said["err"]
    assert secret not in said["err"] + said["out"]
    assert REPO not in hub.repos


@pytest.mark.parametrize("words", [("push", "out", REPO), ("merge", "r.yml", "new", "--push")])
def test_nor_is_one_in_the_title(
    client: Client, hub: Hub, out: Path, words: tuple[str, ...]
) -> None:
    secret = "hf_" + "A1b2" * 10
    with (client.home / "r.yml").open("a") as recipe:
        recipe.write(f"push: {{repo: {REPO}, message: Use {secret}}}\n")
    said = run(client, *words, *(("--message", secret) if words[0] == "push" else ()))
    assert said["code"] == 2
    assert "the commit's title, line 1" in said["err"]
    assert secret not in said["err"] + said["out"]
    assert REPO not in hub.repos


@pytest.mark.parametrize(("flag", "private"), [("--public", True), ("--private", False)])
def test_the_other_visibility_is_an_error_and_none_keeps_it(
    client: Client, hub: Hub, out: Path, flag: str, private: bool
) -> None:
    hub.repo(REPO, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
    said = run(client, "push", "out", REPO, flag)
    assert said["code"] == 2
    assert flag in said["err"]
    assert ok(client, "push", "out", REPO)["private"] is private


@pytest.mark.parametrize(
    ("token", "repo", "said"),
    [
        (False, REPO, "nobody is logged in"),
        ("hf_nobody", REPO, "does not know your token"),
        (READ_TOKEN, REPO, "may only read"),
        (True, "stranger/merged", "tester/merged or org/merged"),
        (OTHER_TOKEN, "org/there", "stranger/there"),
        (FINE_TOKEN, REPO, "fine-grained token may not write to tester"),
    ],
)
def test_who_may_not_write_is_told_before_any_byte_is_read(
    client: Client, hub: Hub, out: Path, token: bool | str, repo: str, said: str
) -> None:
    hub.repo("org/there", {"LICENSE": b""}, private=True)
    for shard in out.glob("*.safetensors"):
        shard.unlink()  # a push that read them would end otherwise
    answer = run(client, "push", "out", repo, token=token)
    assert answer["code"] == 5, answer["err"]
    assert said in answer["err"]
    assert "hf auth login" in answer["err"]


def test_a_fine_grained_token_writes_where_it_may(client: Client, hub: Hub, out: Path) -> None:
    assert ok(client, "push", "out", "org/merged", token=FINE_TOKEN)["changed"] is True


class Application(Account):
    """A login by OAuth, which is no token and says nothing of one."""

    def whoami(self) -> dict[str, object]:
        auth = {"type": "oauth", "accessToken": None}
        return {**Account.whoami(self), "auth": auth, "orgs": None}


def test_a_login_that_says_nothing_of_its_token(client: Client, hub: Hub, out: Path) -> None:
    hub.accounts[TOKEN] = Application("tester")
    assert ok(client, "push", "out", REPO)["changed"] is True
    assert run(client, "push", "out", "stranger/x")["code"] == 5


@pytest.mark.parametrize("status", [401, 404])
def test_a_missing_repository_that_the_hub_gives_no_code_for(
    client: Client, hub: Hub, out: Path, status: int
) -> None:
    hub.fault("GET /api/models/tester/merged", status=status)
    assert ok(client, "push", "out", REPO)["changed"] is True


def test_a_public_repository_of_another_is_told_apart(client: Client, hub: Hub, out: Path) -> None:
    hub.repo("org/there", {"LICENSE": b""})
    answer = run(client, "push", "out", "org/there", token=OTHER_TOKEN)
    assert answer["code"] == 5
    assert "may not write there (HTTP 403)" in answer["err"]


@pytest.mark.parametrize("repo", ["merged", "datasets/tester/x", "https://hub/x/y", "a/b--c", "a/"])
def test_ids_that_cannot_be(client: Client, hub: Hub, out: Path, repo: str) -> None:
    answer = run(client, "push", "out", repo)
    assert answer["code"] == 2
    assert "owner/name" in answer["err"]
    assert hub.log == []


def test_offline_and_without_a_merge(client: Client, out: Path) -> None:
    answer = run(client, "push", "out", REPO, HF_HUB_OFFLINE="1")
    assert (answer["code"], "HF_HUB_OFFLINE" in answer["err"]) == (5, True)
    assert run(client, "push", "nowhere", REPO)["code"] == 5


def test_a_repository_that_moved_is_named(client: Client, hub: Hub, out: Path) -> None:
    hub.repo("tester/old", {"LICENSE": b""})
    hub.rename("tester/old", REPO)
    for words in (("push", "out", "tester/old"), ("plan", "r.yml", "--push", "tester/old")):
        answer = run(client, *words)
        assert answer["code"] == 5
        assert f"called {REPO} now" in answer["err"]
