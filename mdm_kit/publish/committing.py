"""The one commit, and what became of it when nobody heard the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mdm_kit.sources.hub_failures as failures
from mdm_kit.errors import IntegrityError, SourceError, UploadsLost
from mdm_kit.publish.bundle_files import BundleFile
from mdm_kit.publish.changes import Changes
from mdm_kit.publish.refusals import told
from mdm_kit.publish.repository import MAIN, Head, read_head
from mdm_kit.recipe import Push
from mdm_kit.sources.hub_listing import Listed, listed
from mdm_kit.words import shown

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

_GONE, _MOVED = 400, 412
_ASKED_AT_ONCE = 100


def commit(
    api: HfApi,
    push: Push,
    head: Head,
    wanted: Changes,
    operations: Sequence[CommitOperationAdd],
    title: str,
    body: str,
) -> str:
    """Commit `operations` and the deletions of `wanted` on top of `head`; return the commit's id.

    When the answer is lost, or makes no sense, the branch itself is asked whether it holds what was
    to be committed.
    Raises `SourceError` where somebody else moved the branch, and then nothing was changed, or the
    Hub refuses; `UploadsLost` where it no longer has what the commit names.
    """
    from huggingface_hub import CommitOperationDelete

    deletions = [CommitOperationDelete(name) for name in wanted.delete]
    patience = failures.Patience()
    while True:
        try:
            return api.create_commit(
                push.repo,
                [*operations, *deletions],
                commit_message=title,
                commit_description=body,
                revision=push.revision or MAIN,
                parent_commit=head.commit,
            ).oid
        except Exception as error:
            status = failures.status_of(error)
            if status == _GONE:
                raise _lost(push.repo) from None
            if status not in (0, _MOVED) and not failures.is_passing(error):
                with told(push.repo):
                    raise
            now = read_head(api, push)
            if holds(now, wanted):
                return now.commit
            if now.commit != head.commit:
                raise _moved(push) from None
            if not patience.again(error):
                with told(push.repo):
                    raise


def holds(head: Head, wanted: Changes) -> bool:
    """Whether a branch has all that was to be added and nothing that was to be deleted."""
    return all(f.is_like(head.files.get(f.name)) for f in wanted.add) and not any(
        name in head.files for name in wanted.delete
    )


def check_commit(api: HfApi, repo: str, commit_id: str, files: Sequence[BundleFile]) -> None:
    """Compare every file of a commit with what was to be published.

    Raises `IntegrityError` naming each one that is something else.
    """
    found = found_at(api, repo, commit_id, files)
    wrong = [file.name for file in files if not file.is_like(found.get(file.name))]
    if wrong:
        raise IntegrityError(
            f"the repository {shown(repo)} at {commit_id} does not hold the bytes that were sent: "
            f"{', '.join(map(shown, wrong[:5]))}; do not use that commit, and push again"
        )


def found_at(
    api: HfApi, repo: str, commit_id: str, files: Sequence[BundleFile]
) -> dict[str, Listed]:
    """Return what a commit holds under the names of `files`; nothing where it is gone."""
    found: dict[str, Listed] = {}
    names = [file.name for file in files]
    with told(repo):
        for start in range(0, len(names), _ASKED_AT_ONCE):
            some = names[start : start + _ASKED_AT_ONCE]
            for entry in _asked(api, repo, commit_id, some):
                found[entry.path] = listed(entry)
    return found


def _asked(api: HfApi, repo: str, commit_id: str, names: list[str]) -> Sequence[Any]:
    try:
        return failures.patiently(lambda: api.get_paths_info(repo, names, revision=commit_id))
    except Exception as error:
        if failures.names_of(error) & {"RepositoryNotFoundError", "RevisionNotFoundError"}:
            return ()
        raise


def _moved(push: Push) -> SourceError:
    branch = push.revision or MAIN
    return SourceError(
        f"the branch {shown(branch)} of {shown(push.repo)} moved while the merge was on its way: "
        "somebody else committed to it. Nothing was changed; run the same command again, what is "
        "uploaded is not sent again"
    )


def _lost(repo: str) -> UploadsLost:
    return UploadsLost(
        f"the repository {shown(repo)}: the Hub refused the commit (HTTP 400), most likely because "
        "it no longer has files that were uploaded earlier; nothing was changed. Run the same "
        "command again, it uploads what is missing"
    )
