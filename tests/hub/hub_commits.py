"""The loopback Hub's routes that make commits: how each file is to come, then all in one."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hub_accounts import A, known_account, visible, writable
from hub_answers import Refused
from hub_store import ATTRIBUTES, Blob, is_lfs
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hub_accounts import Account
    from hub_store import Repo
    from starlette.requests import Request

Changes = dict[str, Blob | None]
"""What a commit does: a blob for each file it adds, None for what it takes away."""


def target(request: Request) -> tuple[str, Repo, Account, str, bool]:
    """Return the repository, who commits, to which branch, and whether by a pull request."""
    pull = request.query_params.get("create_pr", "") in ("1", "true")
    if pull:
        name, repo = visible(request)
        who = known_account(request)
        if who.role == "read":
            raise Refused(403, "You don't have the rights to open a pull request.")
    else:
        name, repo, who = writable(request)
    revision = unquote(request.path_params["rev"])
    if revision not in repo.refs and revision not in repo.pulls:
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return name, repo, who, revision, pull


async def preupload(request: Request) -> Response:
    """Answer for each file whether it comes by Git LFS, and what the Hub has of it now."""
    _, repo, _, revision, _ = target(request)
    asked = await request.json()
    if len(asked["files"]) > 256:
        raise Refused(400, "At most 256 files")
    oid = repo.resolve(revision)
    assert oid is not None
    files = repo.commits[oid].files
    attributes = files[".gitattributes"].read() if ".gitattributes" in files else ATTRIBUTES
    rows = []
    for wanted in asked["files"]:
        path = wanted["path"]
        lfs = is_lfs(path, wanted["size"], attributes)
        row = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        rows.append({**row, "oid": files[path].etag} if path in files else row)
    return JSONResponse({"files": rows})


async def read_changes(request: Request) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a commit's header and its operations, refusing what cannot be one."""
    try:
        rows = [json.loads(row) for row in (await request.body()).splitlines() if row.strip()]
    except ValueError as error:
        raise Refused(400, "Invalid JSON") from error
    if not rows or rows[0].get("key") != "header" or "summary" not in rows[0]["value"]:
        raise Refused(400, "The first line must be a header with a summary")
    return rows[0]["value"], rows[1:]


async def new_blobs(request: Request, rows: Iterable[dict[str, Any]]) -> list[Blob | None]:
    """Return the content each operation brings, None for those that take away."""
    found: list[Blob | None] = []
    for row in rows:
        value = row["value"]
        check_path(value["path"])
        if row["key"] == "file":
            data = base64.b64decode(value["content"])
            found.append(request.app.state.hub.objects.put("", data))
        elif row["key"] == "lfsFile":
            blob = await request.app.state.hub.lfs_blob(value["oid"])
            if blob is None or value.get("size", blob.nbytes) != blob.nbytes:
                raise Refused(
                    400, f"LFS pointer pointed to a file that does not exist: {value['path']}"
                )
            found.append(blob)
        elif row["key"] in ("deletedFile", "deletedFolder"):
            found.append(None)
        else:
            raise Refused(400, f"Unknown operation {row['key']}")
    return found


def check_path(path: str) -> None:
    parts = path.rstrip("/").split("/")
    if not all(parts) or any(part in (".", "..", ".git") for part in parts):
        raise Refused(400, f"Invalid path: {path}")


def changed(
    files: dict[str, Blob], rows: list[dict[str, Any]], blobs: list[Blob | None]
) -> dict[str, Blob]:
    """Return the files after all operations."""
    after = dict(files)
    for row, blob in zip(rows, blobs, strict=True):
        path = row["value"]["path"]
        if blob is not None:
            after[path] = blob
            continue
        folder = path.rstrip("/") + "/"
        gone = [
            p
            for p in after
            if p == path or (row["key"] == "deletedFolder" and p.startswith(folder))
        ]
        if not gone:
            raise Refused(404, f"A file with the name {path} does not exist", "EntryNotFound")
        for p in gone:
            del after[p]
    return after


async def commit(request: Request) -> Response:
    """Make a commit if its parent is still the newest one; whoever comes second is told."""
    name, repo, who, revision, pull = target(request)
    header, rows = await read_changes(request)
    blobs = await new_blobs(request, rows)
    hub = request.app.state.hub
    with repo.lock:
        parent = repo.resolve(revision)
        assert parent is not None
        wanted = header.get("parentCommit")
        if wanted and not (len(wanted) >= 7 and parent.startswith(wanted)):
            parent = repo.resolve(wanted) if pull else None
        if parent is None:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = changed(repo.commits[parent].files, rows, blobs)
        about = (header["summary"], header.get("description", ""), who.name)
        oid = repo.add(files, parent, *about)
        if pull:
            revision = f"refs/pr/{len(repo.pulls) + 1}"
        (repo.pulls if revision.startswith("refs/pr/") else repo.refs)[revision] = oid
    told = {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{name}/commit/{oid}"}
    if pull:
        told["pullRequestUrl"] = f"{hub.url}/{name}/discussions/{revision.rpartition('/')[2]}"
    return JSONResponse(told)


ROUTES = [
    Route(A + "/preupload/{rev}", preupload, methods=["POST"]),
    Route(A + "/commit/{rev}", commit, methods=["POST"]),
]
