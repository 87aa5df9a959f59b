"""The loopback Hub's listings, as the stock client reads them: files, names, rights, cards."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hub_models import sharded
from server import FINE_TOKEN, OTHER_TOKEN, READ_TOKEN, TOKEN

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub


def test_listings_in_pages(hub: Hub, client: Client) -> None:
    hub.tree_page, hub.commits_page = 3, 2
    files = {f"d{i}/f{j}.json": b"x" * (i + j) for i in range(3) for j in range(3)}
    hub.repo("org/model", files)
    for i in range(4):
        hub.repos["org/model"].commit({**files, "new.json": bytes(i)}, title=f"Number {i}")
    answer = client.stock(
        """
deep = list(api.list_repo_tree("org/model", recursive=True))
flat = list(api.list_repo_tree("org/model", expand=True))
inside = list(api.list_repo_tree("org/model", "d1"))
found = api.get_paths_info("org/model", ["d1/f1.json", "d2", "nothing"])
answer = {
    "files": {e.path: e.size for e in deep if hasattr(e, "size")},
    "flat": [[e.path, e.last_commit.title] for e in flat],
    "inside": [e.path for e in inside],
    "found": [e.path for e in found],
    "commits": [c.title for c in api.list_repo_commits("org/model")],
    "missing": refused(lambda: list(api.list_repo_tree("org/model", "additional_chat_templates"))),
}
"""
    )
    assert answer == {
        "files": {**{path: len(data) for path, data in files.items()}, "new.json": 3},
        "flat": [["d0", "Commit"], ["d1", "Commit"], ["d2", "Commit"], ["new.json", "Number 3"]],
        "inside": ["d1/f0.json", "d1/f1.json", "d1/f2.json"],
        "found": ["d1/f1.json", "d2"],
        "commits": ["Number 3", "Number 2", "Number 1", "Number 0", "Commit"],
        "missing": ["RemoteEntryNotFoundError", 404],
    }
    assert sum("/tree/main" in r.path for r in hub.log) >= 5


def test_branches_and_tags(hub: Hub, client: Client) -> None:
    first = hub.repo("org/model", {"config.json": b"1"})
    second = hub.repos["org/model"].commit({"config.json": b"2"})
    answer = client.stock(
        f"first = {first!r}"
        """
api.create_branch("org/model", branch="dev/x", revision=first)
api.create_tag("org/model", tag="v1.0", revision=first)
twice = [refused(lambda: api.create_branch("org/model", branch="dev/x")),
         refused(lambda: api.create_tag("org/model", tag="v1.0"))]
refs = api.list_repo_refs("org/model")
read = [open(hf_hub_download("org/model", "config.json", revision=r)).read()
        for r in ("dev/x", "v1.0", first[:9], "main")]
api.upload_file(path_or_fileobj=b"3", path_in_repo="c", repo_id="org/model", revision="dev/x")
answer = {
    "twice": twice, "read": read,
    "refs": [{b.name: b.target_commit for b in refs.branches}, [t.ref for t in refs.tags]],
    "on": [api.file_exists("org/model", "c", revision=r) for r in ("dev/x", "main")],
    "main": refused(lambda: api.delete_branch("org/model", branch="main")),
    "nowhere": refused(lambda: api.model_info("org/model", revision="nope")),
}
api.delete_branch("org/model", branch="dev/x")
api.delete_tag("org/model", tag="v1.0")
refs = api.list_repo_refs("org/model")
answer["after"] = [len(refs.branches), len(refs.tags)]
"""
    )
    assert answer == {
        "twice": [["HfHubHTTPError", 409]] * 2,
        "read": ["1", "1", "1", "2"],
        "refs": [{"main": second, "dev/x": first}, ["refs/tags/v1.0"]],
        "on": [True, False],
        "main": ["HfHubHTTPError", 403],
        "nowhere": ["RevisionNotFoundError", 404],
        "after": [1, 0],
    }


def test_model_info_with_blobs(hub: Hub, client: Client) -> None:
    files = sharded()
    hub.repo("org/model", files)
    answer = client.stock(
        """
info = api.model_info("org/model", files_metadata=True)
answer = {
    s.rfilename: [s.size, bool(s.blob_id), s.lfs and s.lfs.sha256] for s in info.siblings
}
"""
    )
    assert answer == {
        path: [len(d), True, sha256(d).hexdigest() if path.endswith(".safetensors") else None]
        for path, d in files.items()
    }


RIGHTS = """
def seen(name, token):
    return [refused(lambda: api.model_info(name, token=token)),
            refused(lambda: api.auth_check(name, token=token)),
            refused(lambda: get_hf_file_metadata(hf_hub_url(name, "config.json"), token=token))]
def everything(token):
    return [seen(name, token) for name in ("org/open", "org/private", "org/gated", "org/nothing")]
answer = {}
for token in TOKENS:
    answer[str(token)] = everything(token)
api.grant_access("org/gated", "stranger")
answer["granted"] = seen("org/gated", TOKENS[1])
"""
GONE, LOST = ["RepositoryNotFoundError", 401], ["RepositoryNotFoundError", 404]


@pytest.mark.parametrize("redirect", [False, True])
def test_who_sees_what(hub: Hub, client: Client, redirect: bool) -> None:
    files = {"config.json": b"{}"}
    hub.repo("org/open", files, redirect=redirect)
    hub.repo("org/private", files, private=True)
    hub.repo("org/gated", files, gated="manual")
    tokens = [False, OTHER_TOKEN, TOKEN, READ_TOKEN, FINE_TOKEN, "hf_unknown"]
    answer = client.stock(RIGHTS.replace("TOKENS", repr(tokens)))
    free = [None] * 3
    nobody, stranger = ["GatedRepoError", 401], ["GatedRepoError", 403]
    assert answer["False"] == [free, [GONE] * 3, [None, nobody, nobody], [GONE] * 3]
    assert answer[OTHER_TOKEN] == [free, [LOST] * 3, [None, stranger, stranger], [LOST] * 3]
    for token in (TOKEN, READ_TOKEN, FINE_TOKEN):
        assert answer[token] == [free, free, free, [LOST] * 3]
    assert answer["granted"] == free
    bad = [told for row in answer["hf_unknown"] for told in row]
    assert bad == [["HfHubHTTPError", 401]] * 12


def test_whoami(hub: Hub, client: Client) -> None:
    roles = {TOKEN: "write", READ_TOKEN: "read", FINE_TOKEN: "fineGrained"}
    answer = client.stock(
        f"found = [api.whoami(token=t) for t in {list(roles)}]"
        """
answer = [[me["name"], me["auth"]["accessToken"]["role"], me["orgs"][0]["name"]] for me in found]
"""
    )
    assert answer == [["tester", role, "org"] for role in roles.values()]


def test_renamed_repository(hub: Hub, client: Client) -> None:
    files = {"config.json": b"{}", **sharded()}
    hub.repo("org/old", files)
    answer = client.stock(
        """
api.move_repo("org/old", "org/new")
from pathlib import Path
folder = Path(snapshot_download("org/old"))
api.upload_file(path_or_fileobj=b"1", path_in_repo="a.json", repo_id="org/old")
answer = [api.model_info("org/old").id, sorted(p.name for p in folder.iterdir())]
"""
    )
    assert answer[0] == "org/new"
    assert answer[1] == sorted({path.partition("/")[0] for path in files})
    assert any(r.status == 307 for r in hub.log)


def test_cards_are_looked_at(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {})
    answer = client.stock(
        """
def told(text):
    add = CommitOperationAdd("README.md", text.encode())
    try:
        api.create_commit("org/model", [add], commit_message="Card")
    except ValueError as error:
        return str(error)
answer = [told("---\\n{a: b\\n---\\n"), told("---\\nbase_model: ./local\\n---\\n")]
told("---\\nlicense: mit\\nbase_model: [a/x, b/y]\\n"
     "tags: [merge]\\nlibrary_name: transformers\\n---\\n# M")
info = api.model_info("org/model")
answer += [info.tags, info.card_data.base_model, info.library_name]
"""
    )
    assert "Invalid YAML" in answer[0]
    assert "base_model" in answer[1]
    assert answer[2:] == [
        [
            "transformers",
            "merge",
            "base_model:a/x",
            "base_model:b/y",
            "base_model:merge:a/x",
            "base_model:merge:b/y",
            "license:mit",
            "region:us",
        ],
        ["a/x", "b/y"],
        "transformers",
    ]
