"""The loopback Hub takes what the stock client sends: whole, in parts, in one commit or none."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest
from conftest import STOCK
from server import READ_TOKEN

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

LARGE = """
def large(seed, nbytes=3_000_000):
    import random
    return random.Random(seed).randbytes(nbytes)
"""


def newest(hub: Hub, name: str = "org/model", branch: str = "main") -> dict[str, bytes]:
    repo = hub.repos[name]
    return {path: blob.read() for path, blob in repo.commits[repo.refs[branch]].files.items()}


def test_create_repo(hub: Hub, client: Client) -> None:
    answer = client.stock(
        """
first = api.create_repo("org/model", private=True)
answer = {
    "id": first.repo_id, "again": api.create_repo("org/model", exist_ok=True).repo_id,
    "refused": refused(lambda: api.create_repo("org/model")),
    "own": api.create_repo("mine").repo_id,
    "elsewhere": refused(lambda: api.create_repo("nobody/model")),
    "private": api.model_info("org/model").private,
    "files": api.list_repo_files("org/model"),
}
api.update_repo_settings("org/model", gated="auto", visibility="public")
info = api.model_info("org/model")
answer["settings"] = [info.private, info.gated]
api.delete_repo("mine")
answer["gone"] = api.repo_exists("tester/mine")
"""
    )
    assert answer == {
        "id": "org/model",
        "again": "org/model",
        "refused": ["HfHubHTTPError", 409],
        "own": "tester/mine",
        "elsewhere": ["HfHubHTTPError", 403],
        "private": True,
        "files": [".gitattributes"],
        "settings": [False, "auto"],
        "gone": False,
    }


@pytest.mark.parametrize("redirect", [False, True])
def test_upload_file_and_read_it_back(hub: Hub, client: Client, redirect: bool) -> None:
    hub.redirect = redirect
    answer = client.stock(
        LARGE
        + """
import hashlib
api.create_repo("org/model")
name = "sub/odd ü%20.safetensors"
one = api.upload_file(path_or_fileobj=large(1), path_in_repo=name, repo_id="org/model")
two = api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="org/model")
again = api.upload_file(path_or_fileobj=large(1), path_in_repo=name, repo_id="org/model")
got = hf_hub_download("org/model", name)
answer = {
    "commits": len({one.oid, two.oid}), "noop": again.oid == two.oid,
    "got": hashlib.sha256(open(got, "rb").read()).hexdigest(),
}
""",
    )
    files = newest(hub)
    content = files["sub/odd ü%20.safetensors"]
    assert answer == {"commits": 2, "noop": True, "got": hashlib.sha256(content).hexdigest()}
    assert files["config.json"] == b"{}"
    puts = [r for r in hub.log if r.method == "PUT"]
    assert [r.received for r in puts] == [3_000_000]
    assert not any(r.authorized for r in puts)
    assert sum("/cdn/" in r.path for r in hub.log if r.method == "GET") == redirect


def test_upload_in_parts(hub: Hub, client: Client) -> None:
    hub.part_nbytes = 1_000_000
    hub.fault(r"PUT /upload/.*/2$", status=503, times=1)
    client.stock(
        LARGE
        + """
api.create_repo("org/model")
api.upload_file(path_or_fileobj=large(1, 3_500_000), path_in_repo="a.bin", repo_id="org/model")
answer = None
"""
    )
    assert newest(hub)["a.bin"] == random.Random(1).randbytes(3_500_000)
    puts = [(r.path.rpartition("/")[2], r.status) for r in hub.log if r.method == "PUT"]
    assert puts == [("1", 200), ("2", 503), ("2", 200), ("3", 200), ("4", 200)]
    assert not list(hub.incoming.iterdir())


def test_preupload_then_one_commit(hub: Hub, client: Client) -> None:
    answer = client.stock(
        LARGE
        + """
api.create_repo("org/model")
head = api.model_info("org/model").sha
shards = [CommitOperationAdd(f"model-{i}.safetensors", large(i)) for i in (1, 2)]
for shard in shards:
    api.preupload_lfs_files("org/model", [shard])
before = len(api.list_repo_commits("org/model"))
side = CommitOperationAdd("config.json", b"{}")
made = api.create_commit(
    "org/model", [*shards, side], commit_message="One", commit_description="run-id: 1",
    parent_commit=head)
newest = api.list_repo_commits("org/model")[0]
stale = refused(lambda: api.create_commit(
    "org/model", [CommitOperationAdd("b.json", b"1")], commit_message="Two", parent_commit=head))
changed = api.create_commit(
    "org/model", [CommitOperationDelete("config.json"), CommitOperationAdd("d/b.json", b"1")],
    commit_message="Three", parent_commit=made.oid[:10])
absent = refused(lambda: api.create_commit(
    "org/model", [CommitOperationDelete("nothing.json")], commit_message="Four"))
folder = api.delete_folder("d", "org/model")
answer = {
    "before": before, "newest": [newest.title, newest.message, newest.commit_id == made.oid],
    "stale": stale, "absent": absent, "files": sorted(api.list_repo_files("org/model")),
    "url": [made.repo_url.repo_id, made.commit_url.rpartition("/")[0].partition("/org")[2]],
}
"""
    )
    assert answer == {
        "before": 1,
        "newest": ["One", "run-id: 1", True],
        "stale": ["HfHubHTTPError", 412],
        "absent": ["RemoteEntryNotFoundError", 404],
        "files": [".gitattributes", "model-1.safetensors", "model-2.safetensors"],
        "url": ["org/model", "/model/commit"],
    }


def test_pull_request(hub: Hub, client: Client) -> None:
    head = hub.repo("org/model", {"config.json": b"{}"})
    answer = client.stock(
        """
made = api.create_commit("org/model", [CommitOperationAdd("config.json", b"1")],
                         commit_message="Change", create_pr=True)
refs = api.list_repo_refs("org/model", include_pull_requests=True)
answer = [made.pr_num, made.pr_revision, api.model_info("org/model").sha,
          api.model_info("org/model", revision="refs/pr/1").sha == made.oid,
          [r.ref for r in refs.pull_requests]]
"""
    )
    assert answer == [1, "refs/pr/1", head, True, ["refs/pr/1"]]


def test_of_eight_commits_at_once_one_wins(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {"config.json": b"{}"})
    answer = client.stock(
        """
from concurrent.futures import ThreadPoolExecutor
head = api.model_info("org/model").sha
def one(i, **guard):
    return refused(lambda: api.create_commit(
        "org/model", [CommitOperationAdd(f"{i}.json", b"1")], commit_message=str(i), **guard))
with ThreadPoolExecutor(8) as pool:
    guarded = list(pool.map(lambda i: one(i, parent_commit=head), range(8)))
    free = list(pool.map(one, range(8, 16)))
commits = api.list_repo_commits("org/model")
answer = [sorted(guarded, key=lambda told: told or []), free, len(commits)]
"""
    )
    assert answer == [[None, *[["HfHubHTTPError", 412]] * 7], [None] * 8, 10]


def test_an_answer_that_is_lost_after_the_commit(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {"config.json": b"{}"})
    hub.fault("POST .*/commit/main", status=504, lost=True)
    answer = client.stock(
        """
answer = refused(lambda: api.create_commit(
    "org/model", [CommitOperationAdd("a.json", b"1")], commit_message="Add"))
"""
    )
    assert answer == ["HfHubHTTPError", 504]
    assert newest(hub)["a.json"] == b"1"


def test_an_upload_that_is_refused(hub: Hub, client: Client) -> None:
    head = hub.repo("org/model", {"config.json": b"{}"})
    hub.fault("PUT /upload/", status=403, times=99)
    answer = client.stock(
        LARGE
        + """
add = CommitOperationAdd("a.safetensors", large(1))
answer = refused(lambda: api.create_commit("org/model", [add], commit_message="Add"))
"""
    )
    assert answer == ["HfHubHTTPError", 403]
    assert hub.repos["org/model"].refs["main"] == head


@pytest.mark.parametrize("xet", [False, True])
def test_what_was_collected_is_not_committed_until_it_comes_again(
    hub: Hub, client: Client, xet: bool
) -> None:
    hub.repo("org/model", {})
    hub.fault("POST .*/commit/", before=hub.collect)
    answer = client.stock(
        LARGE
        + """
def add():
    return CommitOperationAdd("a.safetensors", large(1))
answer = [refused(lambda: api.create_commit("org/model", [add()], commit_message="Add"))
          for _ in range(2)]
""",
        xet=xet,
    )
    assert answer == [["BadRequestError", 400], None]
    assert newest(hub)["a.safetensors"] == random.Random(1).randbytes(3_000_000)


def test_bytes_that_changed_on_the_way_are_refused(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {})
    answer = client.stock(
        LARGE
        + """
add = CommitOperationAdd("a.safetensors", large(1))
add.path_or_fileobj = large(2)
answer = refused(lambda: api.preupload_lfs_files("org/model", [add]))
"""
    )
    assert answer == ["BadRequestError", 400]
    assert [r.status for r in hub.log if r.method == "PUT"] == [400]
    assert not list(hub.incoming.iterdir())


def test_a_client_killed_while_it_uploads(hub: Hub, client: Client) -> None:
    head = hub.repo("org/model", {})
    process = client.start(
        LARGE
        + """
for i in range(4):
    api.preupload_lfs_files("org/model", [CommitOperationAdd(f"{i}.safetensors", large(i))])
answer = None
""",
        prelude=STOCK,
        token=True,
    )
    hub.fault("PUT /upload/", before=process.kill, skip=2)
    with process:
        process.communicate(timeout=60)
    assert process.returncode < 0
    assert hub.repos["org/model"].refs["main"] == head
    assert sum(r.status == 200 for r in hub.log if r.method == "PUT") in (2, 3)


def test_who_may_not_write(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {"config.json": b"{}"})
    code = """
answer = refused(lambda: api.create_commit(
    "org/model", [CommitOperationAdd("a.json", b"1")], commit_message="Add"))
"""
    assert client.stock(code, token=READ_TOKEN)[1] == 403
    assert client.stock(code, token=False)[1] == 401
    assert "a.json" not in newest(hub)
