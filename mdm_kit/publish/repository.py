"""The repository a merge is published into: what it is, what its branch holds, how it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mdm_kit.errors import SourceError, UsageError
from mdm_kit.publish.refusals import offline, told
from mdm_kit.recipe import MAX_MESSAGE, Push
from mdm_kit.sources.hub_failures import names_of, patiently, status_of
from mdm_kit.sources.hub_listing import Listed, listed
from mdm_kit.sources.hub_names import COMMIT, is_repo_id, is_revision
from mdm_kit.sources.hub_repo import is_offline
from mdm_kit.words import shown

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "main"
KEPT_ENDING = "-deltas"
"""The repository of a merge's kept models is called like the merge's, and this."""
TIMEOUT_S = 30.0
"""How long the Hub may take to list a repository with thousands of files."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a branch holds: its commit, its files by name, and who may see the repository."""

    commit: str
    private: bool
    files: Mapping[str, Listed]


@dataclass(frozen=True, slots=True)
class Place:
    """A repository and a branch of it, and what the Hub says of them.

    `exists` and `private` are about the repository, as it will be where it is missing; `head` is
    None where the branch is, and `start` then what it will be made from.
    """

    push: Push
    exists: bool
    private: bool
    head: Head | None
    start: Head | None = None

    @property
    def branch(self) -> str:
        """The branch's name."""
        return self.push.revision or MAIN


def client() -> HfApi:
    """Return the Hub's client, logged in as whoever is."""
    from huggingface_hub import HfApi

    return HfApi(library_name="mdm_kit")


def check_names(push: Push) -> None:
    """Raise `UsageError` where repository or branch cannot exist, or the title is no line."""
    repo, branch = push.repo, push.revision or MAIN
    if repo.startswith(("datasets/", "spaces/")):
        raise UsageError(
            f"expected a model repository to publish to, found {shown(repo)!r}; "
            "merges are models: name one as owner/name"
        )
    if repo.count("/") != 1 or not is_repo_id(repo):
        hint = f", as in you/{shown(repo)}" if is_repo_id(repo) else ""
        raise UsageError(
            f"expected a repository to publish to, owner/name{hint}, found {shown(repo)!r}"
        )
    if not is_revision(branch) or COMMIT.fullmatch(branch):
        raise UsageError(f"expected the name of a branch, found {shown(branch)!r}")
    title = push.message or ""
    if len(title) > MAX_MESSAGE or not title.isprintable():
        raise UsageError(
            f"expected a line of at most {MAX_MESSAGE} printable characters as the commit's title, "
            f"found {shown(title)!r}"
        )


def look(api: HfApi, push: Push) -> Place:
    """Ask the Hub about a repository and its branch; nothing is changed.

    Raises `UsageError` where the names cannot be, or the repository's visibility is not the one
    asked for, `SourceError` where the Hub does not answer or knows the repository by another name.
    """
    check_names(push)
    if is_offline():
        raise offline()
    branch = push.revision or MAIN
    with told(push.repo):
        info = _info(api, push.repo, branch)
        head = _head(info) if info is not None else None
        start = None
        if info is None and branch != MAIN:
            info = _info(api, push.repo, None)
            start = _head(info) if info is not None else None
    if info is None:
        return Place(push, exists=False, private=push.private is not False, head=None)
    if info.id != push.repo:  # the Hub leads from an old name to the new one
        raise SourceError(
            f"the repository {shown(push.repo)} is called {shown(info.id)} now; publish to that"
        )
    private = bool(info.private)
    _check_visibility(push, private)
    return Place(push, exists=True, private=private, head=head, start=start)


def read_head(api: HfApi, push: Push) -> Head:
    """Return what the branch holds now; raises `SourceError` where that cannot be had."""
    with told(push.repo):
        info = patiently(
            lambda: api.model_info(
                push.repo,
                revision=push.revision or MAIN,
                files_metadata=True,
                timeout=TIMEOUT_S,
            )
        )
    return _head(info)


def make(api: HfApi, place: Place) -> Place:
    """Create repository and branch where they are missing and return the place with its head.

    A new repository is private unless the push says otherwise.
    """
    push = place.push
    if place.head is not None:
        return place
    with told(push.repo):
        if not place.exists:
            patiently(lambda: api.create_repo(push.repo, private=place.private, exist_ok=True))
        if place.branch != MAIN:
            patiently(
                lambda: api.create_branch(
                    push.repo, branch=place.branch, revision=MAIN, exist_ok=True
                )
            )
    head = read_head(api, push)
    if head.private is not place.private:
        # Somebody else made it meanwhile, or the owner's settings are stronger than the request.
        _check_visibility(replace(push, private=place.private), head.private)
    return replace(place, exists=True, head=head)


def _info(api: HfApi, repo: str, branch: str | None) -> Any:
    """Return the Hub's answer about a branch, None where there is no repository or no branch."""
    try:
        return patiently(
            lambda: api.model_info(repo, revision=branch, files_metadata=True, timeout=TIMEOUT_S)
        )
    except Exception as error:
        missing = names_of(error) & {"RepositoryNotFoundError", "RevisionNotFoundError"}
        # Without the code that tells them apart, a known login still says what 401 means here.
        if missing or status_of(error) in (401, 404):
            return None
        raise


def _head(info: Any) -> Head:
    commit = info.sha or ""
    if not COMMIT.fullmatch(commit):
        raise SourceError(
            f"expected a commit id of 40 hex digits from the Hub, found {shown(commit)!r}; "
            "check HF_ENDPOINT"
        )
    files = {s.rfilename: listed(s) for s in info.siblings or ()}
    return Head(commit, bool(info.private), files)


def _check_visibility(push: Push, found: bool) -> None:
    if push.private is None or push.private is found:
        return
    is_now, asked = ("private", "public") if found else ("public", "private")
    raise UsageError(
        f"the repository {shown(push.repo)} is {is_now}, and --{asked} asks for the other; change "
        f"that in its settings on the Hub, or leave --{asked} out (private: in a recipe)"
    )
