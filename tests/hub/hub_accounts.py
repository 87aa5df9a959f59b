"""Who may do what on the loopback Hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub_answers import Refused
from starlette.convertors import StringConvertor, register_url_convertor

if TYPE_CHECKING:
    from hub_store import Repo
    from starlette.requests import Request

TOKEN = "hf_loopback_secret"  # noqa: S105 - opens nothing but this server
READ_TOKEN = "hf_loopback_reader"  # noqa: S105
FINE_TOKEN = "hf_loopback_fine_grained"  # noqa: S105
OTHER_TOKEN = "hf_loopback_stranger"  # noqa: S105

A = "/api/models/{repo:repo}"
"""Where the routes about a repository start."""


class RepoConvertor(StringConvertor):
    """A repository's id in a path: `owner/name`, or `name` as the oldest have it."""

    regex = "[^/]+?(?:/[^/]+?)?"


register_url_convertor("repo", RepoConvertor())


@dataclass(frozen=True, slots=True)
class Account:
    """A user as one token shows them; a fine-grained token writes only in `scope`."""

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()

    def owns(self, repo_id: str) -> bool:
        return repo_id.partition("/")[0] in (self.name, *self.orgs)

    def may_write(self, repo_id: str) -> bool:
        if self.role == "fineGrained":
            return repo_id.partition("/")[0] in self.scope
        return self.role == "write" and self.owns(repo_id)

    def whoami(self) -> dict[str, object]:
        token: dict[str, object] = {"role": self.role, "displayName": "loopback"}
        if self.role == "fineGrained":
            scoped = [
                {
                    "entity": {"type": "org", "name": n},
                    "permissions": ["repo.content.read", "repo.write"],
                }
                for n in self.scope
            ]
            token["fineGrained"] = {"canReadGatedRepos": True, "global": [], "scoped": scoped}
        return {
            "type": "user",
            "name": self.name,
            "fullname": self.name,
            "orgs": [{"type": "org", "name": n, "roleInOrg": "write"} for n in self.orgs],
            "auth": {"type": "access_token", "accessToken": token},
        }


ACCOUNTS = {
    TOKEN: Account("tester", orgs=("org",)),
    READ_TOKEN: Account("tester", role="read", orgs=("org",)),
    FINE_TOKEN: Account("tester", role="fineGrained", orgs=("org",), scope=("org",)),
    OTHER_TOKEN: Account("stranger"),
}


def account(request: Request) -> Account | None:
    """Return who asks, None for nobody; refuse a token nobody has."""
    words = request.headers.get("Authorization")
    if words is None:
        return None
    found: Account | None = request.app.state.hub.accounts.get(words.removeprefix("Bearer "))
    if found is None:
        raise Refused(401, "Invalid credentials in Authorization header")
    return found


def known_account(request: Request) -> Account:
    """Return who asks; refuse nobody."""
    found = account(request)
    if found is None:
        raise Refused(401, "Invalid username or password.")
    return found


def visible(request: Request) -> tuple[str, Repo]:
    """Return the repository a path names and its id; refuse if it is not there to be seen."""
    hub, who = request.app.state.hub, account(request)
    name = request.path_params["repo"].removesuffix(".git")
    if name in hub.renamed and name not in hub.repos:
        raise moved(request, name, hub.renamed[name])
    repo = hub.repos.get(name)
    if repo is None or (repo.private and (who is None or not who.owns(name))):
        raise Refused(401 if who is None else 404, "Repository not found", "RepoNotFound")
    return name, repo


def moved(request: Request, old: str, new: str) -> Refused:
    """Return the answer that leads from a repository's old name to its new one."""
    query = request.url.query
    place = request.url.path.replace(f"/{old}", f"/{new}", 1) + (f"?{query}" if query else "")
    words = f"Temporary Redirect. Redirecting to {place}"
    return Refused(307, words, headers={"Location": place})


def readable(request: Request) -> tuple[str, Repo]:
    """The same, and refuse whoever may not read its files."""
    name, repo = visible(request)
    who = account(request)
    if repo.gated and not (who and (who.owns(name) or who.name in repo.granted)):
        words = f"Access to model {name} is restricted. "
        if who is None:
            raise Refused(
                401, words + "You must have access to it and be authenticated.", "GatedRepo"
            )
        raise Refused(403, words + "You are not in the authorized list.", "GatedRepo")
    return name, repo


def writable(request: Request) -> tuple[str, Repo, Account]:
    """The same of a repository that is to change, and who changes it."""
    name, repo = visible(request)
    who = known_account(request)
    if not who.may_write(name):
        raise Refused(403, "You don't have the rights to write to this repository.")
    return name, repo, who
