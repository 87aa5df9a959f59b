"""Merging and publishing in one go: shards travel while the merge runs, and none travels twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pushes import (
    SHARD,
    code_of,
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
    from typing import Any

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub
REPO = "tester/merged"
MERGE = ("merge", "r.yml", "out", "--shard-size", SHARD, "--push", REPO)


@pytest.fixture
def out(client: Client) -> Path:
    write_recipe(client.home)
    return client.home / "out"


def test_both_have_the_same_merge(client: Client, hub: Hub, out: Path) -> None:
    told = ok(client, *MERGE)
    there = remote_files(hub)
    there.pop(".gitattributes")
    assert there == published(out)
    assert told["published"]["commit"] == hub.repos[REPO].refs["main"]
    assert told["published"]["private"] is True
    assert commits(hub) == 1


def test_without_a_local_copy_only_the_hub_has_it(client: Client, hub: Hub, out: Path) -> None:
    told = ok(client, *MERGE, "--no-local")
    assert told["published"]["changed"] is True
    assert not out.exists()
    assert not work_folder(out).exists()
    assert mdm_kit.verify(fetched(hub, client.home / "got")).sound
    said = run(client, *MERGE, "--no-local")
    assert said["code"] == 0, said["err"]
    assert "nothing to do" in said["err"]
    assert commits(hub) == 1


def test_no_more_than_two_shards_take_room(client: Client, hub: Hub, out: Path) -> None:
    model, most = work_folder(out) / "model", [0]

    def look() -> None:
        most[0] = max(most[0], len([*model.glob("model-*")]))

    hub.fault("PUT ", delay_s=0.05, before=look, times=99)
    told = ok(client, *MERGE, "--no-local")
    assert len(told["shards"]) == 9
    assert 1 <= most[0] <= 2


def test_room_is_asked_for_two_shards_and_not_the_model(
    client: Client, hub: Hub, out: Path
) -> None:
    text = (client.home / "r.yml").read_text().replace("./", f"{client.home}/")
    with mdm_kit.plan(text, shard_nbytes=1500) as plan:
        needed = plan.costs.disk_nbytes
    program = f"""
import shutil, collections
free = collections.namedtuple("u", "total used free")(0, 0, {needed - 5000})
shutil.disk_usage = lambda _: free
"""
    local = client.run(program + code_of(*MERGE), token=True)
    assert local["code"] == 6, local["err"]
    away = client.run(program + code_of(*MERGE, "--no-local"), token=True)
    assert away["code"] == 0, away["err"]


def test_the_recipe_says_where_and_how(client: Client, hub: Hub, out: Path) -> None:
    push = f"push: {{repo: {REPO}, private: false, revision: v1, message: Hello}}\n"
    write = (client.home / "r.yml").read_text() + push
    (client.home / "r.yml").write_text(write)
    ok(client, "merge", "r.yml", "here")
    assert hub.repos == {}, "nothing is pushed without the flag"
    told = ok(client, "merge", "r.yml", "out", "--push")
    assert told["published"]["revision"] == "v1"
    assert not hub.repos[REPO].private
    assert hub.repos[REPO].commits[told["published"]["commit"]].title == "Hello"
    elsewhere = ok(client, "merge", "r.yml", "out2", "--push", "org/other", "--private")
    assert elsewhere["published"]["repo"] == "org/other"


def test_a_merge_that_cannot_begin_makes_no_repository(client: Client, hub: Hub, out: Path) -> None:
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    assert run(client, *MERGE)["code"] == 2
    assert run(client, *MERGE, "--no-local")["code"] == 2
    assert run(client, *MERGE[:2], "else", *MERGE[3:], "--device", "toaster")["code"] == 2
    assert hub.repos == {}


def test_a_secret_in_the_recipe_is_told_before_the_work(
    client: Client, hub: Hub, out: Path
) -> None:
    secret = "hf_" + "Zz9" * 12
    text = (client.home / "r.yml").read_text()
    (client.home / "r.yml").write_text(f"{text}# {secret}\n")
    said = run(client, *MERGE)
    assert said["code"] == 2
    assert "the recipe, line 4" in said["err"]
    assert secret not in said["err"]
    assert not out.exists()
    assert hub.repos == {}


def test_the_same_from_python(client: Client, hub: Hub, out: Path) -> None:
    answer = client.run(
        """
import mdm_kit
done = mdm_kit.merge("r.yml", "out", push="tester/merged", no_local=True, shard_nbytes=1500)
mdm_kit.merge("r.yml", "here")
push = mdm_kit.Push("tester/other", private=False, message="By hand")
answer = {
    "merged": done.published.commit,
    "pushed": mdm_kit.push("here", push).commit,
    "may": [f.message for f in mdm_kit.push_findings("tester/new")],
    "may_not": [(f.level, f.kind) for f in mdm_kit.push_findings("stranger/new")],
    "cannot": [(f.level, f.kind) for f in mdm_kit.push_findings("new")],
}
""",
        token=True,
    )
    assert answer["merged"] == hub.repos[REPO].refs["main"]
    assert answer["pushed"] == hub.repos["tester/other"].refs["main"]
    assert not out.exists()
    assert answer["may"] == []
    assert answer["may_not"] == [["error", "source"]]
    assert answer["cannot"] == [["error", "recipe"]]


def test_flags_that_need_another(client: Client, out: Path) -> None:
    for flags in (("--no-local",), ("--public",), ("--push",)):
        said = run(client, "merge", "r.yml", "out", *flags)
        assert said["code"] == 2, flags
    assert not out.exists()


def test_a_plan_says_whether_its_result_may_be_published(
    client: Client, hub: Hub, out: Path
) -> None:
    assert run(client, "plan", "r.yml", "--push", REPO)["code"] == 0
    said = run(client, "plan", "r.yml", "--push", "stranger/x")
    assert said["code"] == 5
    assert "stranger" in said["err"]
    text = (client.home / "r.yml").read_text()
    (client.home / "r.yml").write_text(text + "push: {repo: stranger/x}\n")
    said = run(client, "plan", "r.yml")
    assert said["code"] == 5
    assert "r.yml:4:7" in said["err"]
    assert hub.repos == {}


def test_who_may_not_write_is_told_before_anything_is_read(
    client: Client, hub: Hub, out: Path
) -> None:
    said = run(client, *MERGE, token=False)
    assert said["code"] == 5
    assert not work_folder(out).exists()


def test_shards_that_are_no_large_files_there_travel_in_the_commit(
    client: Client, hub: Hub, out: Path
) -> None:
    hub.repo(REPO, {".gitattributes": b"*.bin filter=lfs\n"}, private=True)
    ok(client, *MERGE, "--no-local")
    assert puts(hub) == []
    assert mdm_kit.verify(fetched(hub, client.home / "got")).sound
    assert not work_folder(out).exists()


def test_a_not_a_number_ends_the_merge_and_nothing_is_committed(
    client: Client, hub: Hub, out: Path
) -> None:
    text = (client.home / "r.yml").read_text()
    (client.home / "r.yml").write_text(text + "parameters: {lambda: 1e99}\n")
    answer: dict[str, Any] = run(client, *MERGE, "--no-local")
    assert answer["code"] == 3, answer["err"]
    assert commits(hub) == 0
    assert not work_folder(out).exists()
