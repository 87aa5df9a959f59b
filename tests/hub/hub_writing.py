"""The loopback Hub's routes that change repositories and their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hub_accounts import A, known_account, visible, writable
from hub_answers import Refused
from hub_cards import validate
from hub_reading import commit_of
from hub_store import ATTRIBUTES, Repo
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from hub_accounts import Account
    from starlette.requests import Request


def is_private(asked: dict[str, Any]) -> bool | None:
    """Return what is asked of a repository's visibility, None if nothing."""
    if asked.get("visibility"):
        return bool(asked["visibility"] == "private")
    return asked.get("private")


def named(asked: dict[str, Any], who: Account) -> str:
    return f"{asked.get('organization') or who.name}/{asked['name']}"


async def create(request: Request) -> Response:
    hub, who, asked = request.app.state.hub, known_account(request), await request.json()
    if asked.get("type", "model") != "model":
        raise Refused(400, "This Hub keeps models only")
    name = named(asked, who)
    told = {"url": f"{hub.url}/{name}", "name": name, "id": name}
    if not who.may_write(name):
        words = f'You don\'t have the rights to create a model under the namespace "{name}"'
        raise Refused(403, words)
    if name in hub.repos:
        words = "You already created this model repo"
        return JSONResponse({"error": words, **told}, 409, {"X-Error-Message": words})
    repo = Repo(hub.objects, private=bool(is_private(asked)), redirect=hub.redirect)
    repo.commit({".gitattributes": ATTRIBUTES}, title="initial commit")
    hub.repos[name] = repo
    hub.renamed.pop(name, None)
    return JSONResponse(told)


async def delete(request: Request) -> Response:
    hub, who, asked = request.app.state.hub, known_account(request), await request.json()
    name = named(asked, who)
    if name not in hub.repos or not who.owns(name):
        raise Refused(404, "Repository not found", "RepoNotFound")
    if not who.may_write(name):
        raise Refused(403, "You don't have the rights to delete this repository.")
    del hub.repos[name]
    return JSONResponse({})


async def move(request: Request) -> Response:
    hub, who, asked = request.app.state.hub, known_account(request), await request.json()
    old, new = asked["fromRepo"], asked["toRepo"]
    if old not in hub.repos or not who.owns(old):
        raise Refused(404, "Repository not found", "RepoNotFound")
    if not (who.may_write(old) and who.may_write(new)):
        raise Refused(403, "You don't have the rights to move this repository.")
    if new in hub.repos:
        raise Refused(409, "A repository of this name exists already")
    hub.rename(old, new)
    return JSONResponse({})


async def settings(request: Request) -> Response:
    _, repo, _ = writable(request)
    asked = await request.json()
    if (private := is_private(asked)) is not None:
        repo.private = private
    if "gated" in asked:
        repo.gated = asked["gated"]
    return JSONResponse({"private": repo.private, "gated": repo.gated})


async def grant(request: Request) -> Response:
    _, repo, _ = writable(request)
    repo.granted.add((await request.json())["user"])
    return JSONResponse({})


async def refs(request: Request) -> Response:
    _, repo = visible(request)

    def rows(names: dict[str, str], start: str) -> list[dict[str, str]]:
        return [
            {"name": n.removeprefix(start), "ref": start + n.removeprefix(start), "targetCommit": c}
            for n, c in names.items()
        ]

    told = {
        "branches": rows(repo.refs, "refs/heads/"),
        "tags": rows(repo.tags, "refs/tags/"),
        "converts": [],
    }
    if "include_prs" in request.query_params:
        told["pullRequests"] = rows(repo.pulls, "refs/pr/")
    return JSONResponse(told)


async def create_branch(request: Request) -> Response:
    _, repo, _ = writable(request)
    body = await request.body()
    start = (await request.json() if body else {}).get("startingPoint", "main")
    oid, branch = repo.resolve(start), unquote(request.path_params["branch"])
    if oid is None:
        raise Refused(404, f"Invalid rev id: {start}", "RevisionNotFound")
    if branch in repo.refs:
        raise Refused(409, f"Reference already exists: {branch}")
    repo.refs[branch] = oid
    return JSONResponse({})


async def delete_branch(request: Request) -> Response:
    _, repo, _ = writable(request)
    branch = unquote(request.path_params["branch"])
    if branch == "main":
        raise Refused(403, "The main branch cannot be deleted")
    if repo.refs.pop(branch, None) is None:
        raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    return JSONResponse({})


async def create_tag(request: Request) -> Response:
    _, repo, _ = writable(request)
    commit, tag = commit_of(request, repo), (await request.json())["tag"]
    if tag in repo.tags:
        raise Refused(409, f"Tag reference exists already: {tag}")
    repo.tags[tag] = commit.oid
    return JSONResponse({})


async def delete_tag(request: Request) -> Response:
    _, repo, _ = writable(request)
    if repo.tags.pop(unquote(request.path_params["tag"]), None) is None:
        raise Refused(404, "Tag not found", "RevisionNotFound")
    return JSONResponse({})


async def validate_yaml(request: Request) -> Response:
    errors, warnings = validate((await request.json())["content"])
    told = {
        name: [{"message": m} for m in rows]
        for name, rows in (("errors", errors), ("warnings", warnings))
    }
    return JSONResponse(told, 400 if errors else 200)


async def harnesses(request: Request) -> Response:
    """Answer what the client asks about itself when it starts."""
    return JSONResponse({"standardEnvVars": [], "harnesses": {}})


ROUTES = [
    Route("/api/repos/create", create, methods=["POST"]),
    Route("/api/repos/delete", delete, methods=["DELETE"]),
    Route("/api/repos/move", move, methods=["POST"]),
    Route("/api/validate-yaml", validate_yaml, methods=["POST"]),
    Route("/api/agent-harnesses", harnesses),
    Route(A + "/settings", settings, methods=["PUT"]),
    Route(A + "/user-access-request/grant", grant, methods=["POST"]),
    Route(A + "/refs", refs),
    Route(A + "/branch/{branch:path}", create_branch, methods=["POST"]),
    Route(A + "/branch/{branch:path}", delete_branch, methods=["DELETE"]),
    Route(A + "/tag/{rev}", create_tag, methods=["POST"]),
    Route(A + "/tag/{tag}", delete_tag, methods=["DELETE"]),
]
