"""May this login publish there? Asked before any model is read, and without leaving a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mdm_kit.errors import SourceError, UsageError
from mdm_kit.publish.changes import refuse_foreign
from mdm_kit.publish.earlier import earlier_merge
from mdm_kit.publish.refusals import LOGIN, no_right, offline, told
from mdm_kit.publish.repository import (
    KEPT_ENDING,
    MAIN,
    Place,
    check_names,
    client,
    look,
)
from mdm_kit.recipe import Push
from mdm_kit.sources.hub_failures import patiently, status_of
from mdm_kit.sources.hub_repo import is_offline
from mdm_kit.words import Finding, Kind, Level, shown

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from mdm_kit.words import Place as RecipePlace


def push_findings(
    repo: str,
    revision: str | None = None,
    private: bool | None = None,
    place: RecipePlace | None = None,
    *,
    keeps_models: bool = False,
    private_because: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """Return what would keep a push from happening, nothing where all is well.

    `place` is where the recipe asks for it; `keeps_models` and `private_because` are about the
    merge to be pushed. Nothing is written anywhere.
    """
    try:
        there = check_access(client(), Push(repo, private, revision), keeps_models=keeps_models)
        refuse_going_public(there, private_because)
    except UsageError as error:
        return (Finding(Level.ERROR, Kind.RECIPE, f"push: {error}", place=place),)
    except SourceError as error:
        return (Finding(Level.ERROR, Kind.SOURCE, f"push: {error}", place=place),)
    return ()


def check_access(api: HfApi, push: Push, *, keeps_models: bool = False) -> Place:
    """Return the place of a push, which may not exist yet.

    With `keeps_models` the repository beside it is looked at, too. Raises what `check_right`
    raises, and `UsageError` for a branch that holds another's model, or would from its beginning.
    """
    place = check_right(api, push)
    if keeps_models:
        _check_beside(api, place)
    head = place.head or place.start
    if head is not None:
        refuse_foreign(push.repo, head.files, earlier_merge(api, push.repo, head))
    return place


def _check_beside(api: HfApi, place: Place) -> None:
    beside = look(api, Push(place.push.repo + KEPT_ENDING))
    if not beside.exists:
        return
    if beside.private is not place.private:
        words = {True: "private", False: "public"}
        raise UsageError(
            f"the repository {shown(beside.push.repo)}, where this merge's kept models go, is "
            f"{words[beside.private]}, and {shown(place.push.repo)} is {words[place.private]}; "
            "make them alike in their settings on the Hub, or publish to another repository"
        )
    _probe(api, beside)


def refuse_going_public(place: Place, reasons: Sequence[str]) -> None:
    """Raise `UsageError` where others could see what only its readers should, and nobody said so.

    Saying so is `private: false` in the push: the flag --public.
    """
    if place.private or place.push.private is False or not reasons:
        return
    raise UsageError(
        f"the repository {shown(place.push.repo)} is public, and this merge should be private: "
        f"{'; '.join(shown(reason) for reason in reasons)}. Publish to a private one, or say "
        "--public if you may"
    )


def check_right(api: HfApi, push: Push) -> Place:
    """Return the place of a push to which this login may write.

    Raises `UsageError` for names that cannot be and a visibility other than asked for,
    `SourceError` where nobody is logged in or may not write.
    """
    check_names(push)
    if is_offline():
        raise offline()
    who = _who(api, push.repo)
    place = look(api, push)
    if place.exists:
        _probe(api, place)
    else:
        _check_namespace(push.repo, who)
    return place


def _who(api: HfApi, repo: str) -> dict[str, Any]:
    """Return who is logged in; raises `SourceError` where nobody is, or only to read."""
    with told(repo):
        try:
            who: dict[str, Any] = patiently(api.whoami)
        except Exception as error:
            if status_of(error) != 401:
                raise
            raise SourceError(
                "the Hub does not know your token (HTTP 401); renew it with `hf auth login`, or "
                "correct HF_TOKEN, which comes before it"
            ) from None
    if _token_of(who).get("role") == "read":
        raise SourceError(f"your token may only read; {LOGIN}")
    return who


def _probe(api: HfApi, place: Place) -> None:
    """Ask how a small file would be uploaded, which only somebody who may write is told."""
    from huggingface_hub import CommitOperationAdd

    repo = place.push.repo
    revision = MAIN if place.head is None else place.branch
    probe = CommitOperationAdd("README.md", b"?")
    with told(repo):
        try:
            patiently(lambda: api.preupload_lfs_files(repo, [probe], revision=revision))
        except Exception as error:
            if status_of(error) in (401, 403):
                raise no_right(repo, status_of(error)) from None
            raise


def _token_of(who: dict[str, Any]) -> dict[str, Any]:
    """Return what the Hub says of the token, nothing for logins that are none (OAuth)."""
    auth = who.get("auth")
    token = auth.get("accessToken") if isinstance(auth, dict) else None
    return token if isinstance(token, dict) else {}


def _covers(who: dict[str, Any], owner: str) -> bool:
    """Whether a token may write to an owner's repositories, as far as the Hub says.

    Only fine-grained tokens say; of others nothing is known here.
    """
    rights = _token_of(who).get("fineGrained")
    if not isinstance(rights, dict) or not isinstance(rights.get("scoped"), list):
        return True
    return any(
        scope.get("entity", {}).get("name", "").lower() == owner.lower()
        and "repo.write" in scope.get("permissions", ())
        for scope in rights["scoped"]
    )


def _check_namespace(repo: str, who: dict[str, Any]) -> None:
    names = [who.get("name"), *(org.get("name") for org in who.get("orgs") or ())]
    owner, _, name = repo.partition("/")
    if not _covers(who, owner):
        raise SourceError(
            f"your fine-grained token may not write to {shown(owner)}, so it cannot create "
            f"{shown(repo)}; give it that right in your settings on the Hub, or {LOGIN} there"
        )
    known = [n for n in names if isinstance(n, str)]
    if owner.lower() in (n.lower() for n in known):
        return
    raise SourceError(
        f"the repository {shown(repo)} does not exist, or is not for you to see, and you cannot "
        f"create it: you are neither {shown(owner)} nor a member of it. Yours would be "
        f"{' or '.join(f'{shown(n)}/{shown(name)}' for n in known)}; or {LOGIN} there"
    )
