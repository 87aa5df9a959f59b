"""The loopback Hub's routes that read: what a repository is, what is in it, and its files."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from hub_accounts import A, known_account, readable, visible
from hub_answers import Content, Refused, page
from hub_cards import card_data, tags
from hub_lfs import signed
from hub_store import git_oid, pointer
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from hub_store import Blob, Commit, Repo
    from starlette.requests import Request


def commit_of(request: Request, repo: Repo) -> Commit:
    """Return the commit a path's revision stands for."""
    revision = unquote(request.path_params.get("rev", "main"))
    oid = repo.resolve(revision)
    if oid is None:
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return repo.commits[oid]


async def whoami(request: Request) -> Response:
    return JSONResponse(known_account(request).whoami())


async def auth_check(request: Request) -> Response:
    readable(request)
    return JSONResponse({})


async def info(request: Request) -> Response:
    name, repo = visible(request)
    if not repo.refs:
        raise Refused(404, "Invalid rev id: main", "RevisionNotFound")
    commit = commit_of(request, repo)
    card = card_data(commit.files)
    blobs = request.query_params.get("blobs") == "true"
    told: dict[str, Any] = {
        "id": name,
        "modelId": name,
        "author": name.partition("/")[0],
        "sha": commit.oid,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "createdAt": repo.history(repo.refs["main"])[-1].date,
        "lastModified": repo.commits[repo.refs["main"]].date,
        "tags": tags(card, commit.files),
        "siblings": [sibling(path, blob, blobs) for path, blob in sorted(commit.files.items())],
        "downloads": 0,
        "likes": 0,
    }
    if card:
        told["cardData"] = card
    for key in ("library_name", "pipeline_tag", "model-index"):
        if key in card:
            told[key] = card[key]
    wanted = request.query_params.getlist("expand")
    if wanted:
        told = {key: told[key] for key in ("id", *wanted) if key in told}
    return JSONResponse(told)


def sibling(path: str, blob: Blob, blobs: bool) -> dict[str, object]:
    if not blobs:
        return {"rfilename": path}
    told: dict[str, object] = {"rfilename": path, "size": blob.nbytes, "blobId": blob.oid}
    if blob.sha256:
        told["lfs"] = {
            "sha256": blob.sha256,
            "size": blob.nbytes,
            "pointerSize": len(pointer(blob.sha256, blob.nbytes)),
        }
    return told


def folders(files: dict[str, Blob]) -> dict[str, str]:
    """Return every folder with its id."""
    under: dict[str, list[tuple[str, str]]] = {}
    for path, blob in sorted(files.items()):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            under.setdefault("/".join(parts[:depth]), []).append((path, blob.oid))
    return {folder: git_oid("tree", repr(rows).encode()) for folder, rows in under.items()}


def entry(repo: Repo, commit: Commit, path: str, expand: bool) -> dict[str, object]:
    """Return what a listing says of a file or a folder."""
    blob = commit.files.get(path)
    if blob is None:
        oid = folders(commit.files)[path]
        told: dict[str, object] = {"type": "directory", "path": path, "oid": oid, "size": 0}
    else:
        told = {"type": "file", "path": path, "oid": blob.oid, "size": blob.nbytes}
        if blob.sha256:
            size = len(pointer(blob.sha256, blob.nbytes))
            told["lfs"] = {"oid": blob.sha256, "size": blob.nbytes, "pointerSize": size}
        if blob.xet:
            told["xetHash"] = blob.xet
    if expand:
        last = last_change(repo, commit, path)
        told["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    return told


def last_change(repo: Repo, commit: Commit, path: str) -> Commit:
    """Return the newest commit that changed a file or a folder."""

    def state(of: Commit) -> list[tuple[str, str]]:
        inside = (p for p in of.files if p == path or p.startswith(f"{path}/"))
        return sorted((p, of.files[p].oid) for p in inside)

    history = repo.history(commit.oid)
    changes = (new for new, old in pairwise(history) if state(new) != state(old))
    return next(changes, history[-1])


async def tree(request: Request) -> Response:
    _, repo = visible(request)
    commit = commit_of(request, repo)
    inside = unquote(request.path_params.get("path", "")).strip("/")
    recursive = request.query_params.get("recursive", "false").lower() in ("true", "1")
    expand = request.query_params.get("expand", "false").lower() in ("true", "1")
    known = folders(commit.files)
    if inside and inside not in known:
        raise Refused(404, f"{inside} does not exist on revision", "EntryNotFound")
    start = f"{inside}/" if inside else ""
    paths = [p for p in sorted([*commit.files, *known]) if p.startswith(start)]
    if not recursive:
        paths = [p for p in paths if "/" not in p[len(start) :]]
    entries = [entry(repo, commit, path, expand) for path in paths]
    return page(request, entries, request.app.state.hub.tree_page)


async def paths_info(request: Request) -> Response:
    _, repo = visible(request)
    commit = commit_of(request, repo)
    form = await asked(request)
    known = folders(commit.files)
    paths = [p.strip("/") for p in form.get("paths", [])]
    expand = form.get("expand", ["false"])[0].lower() in ("true", "1")
    there = [p for p in paths if p in commit.files or p in known]
    return JSONResponse([entry(repo, commit, p, expand) for p in there])


async def asked(request: Request) -> dict[str, list[str]]:
    """Return a form, which the Hub takes as JSON too."""
    body = await request.body()
    if "json" not in request.headers.get("Content-Type", ""):
        return parse_qs(body.decode())
    given = json.loads(body)
    return {k: v if isinstance(v, list) else [str(v)] for k, v in given.items()}


async def commits(request: Request) -> Response:
    _, repo = visible(request)
    rows = [
        {
            "id": c.oid,
            "title": c.title,
            "message": c.description,
            "date": c.date,
            "authors": [{"user": c.author}],
        }
        for c in repo.history(commit_of(request, repo).oid)
    ]
    return page(request, rows, request.app.state.hub.commits_page)


async def file(request: Request) -> Response:
    """Answer for a file's content: itself, or the way to where it is stored."""
    _, repo = readable(request)
    commit = commit_of(request, repo)
    path = unquote(request.path_params["path"])
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    blob = commit.files.get(path)
    if blob is None:
        raise Refused(404, "Entry not found", "EntryNotFound", headers)
    headers["ETag"] = f'"{blob.etag}"'
    if blob.sha256:
        headers |= {"X-Linked-Size": str(blob.nbytes), "X-Linked-ETag": f'"{blob.etag}"'}
    if blob.xet:
        headers["X-Xet-Hash"] = blob.xet
        token = f"/api/models/{request.path_params['repo']}/xet-read-token/{commit.oid}"
        headers["Link"] = f'<{request.app.state.hub.url}{token}>; rel="xet-auth"'
    if blob.sha256 and repo.redirect:
        place = signed(request.app.state.hub, f"/cdn/{blob.sha256}")
        return Response(b"", 302, {**headers, "Location": place})
    return Content(request, blob.content, headers)


ROUTES = [
    Route("/api/whoami-v2", whoami),
    Route(A + "/auth-check", auth_check),
    Route(A + "/revision/{rev}", info),
    Route(A + "/tree/{rev}", tree),
    Route(A + "/tree/{rev}/{path:path}", tree),
    Route(A + "/paths-info/{rev}", paths_info, methods=["POST"]),
    Route(A + "/commits/{rev}", commits),
    Route("/{repo:repo}/resolve/{rev}/{path:path}", file),
]
LAST = [Route(A, info)]
"""After all others: its path could be theirs."""
