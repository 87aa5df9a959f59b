"""Makes a merge public: uploads, then one commit, then a comparison of what arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.errors import UploadsLost
from mdm_kit.ledger.entries import DeltasEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.publish.bundle_files import BundleFile, bundle_files, is_kept, kept_files
from mdm_kit.publish.changes import Changes, changes, refuse_foreign
from mdm_kit.publish.committing import check_commit, commit, found_at
from mdm_kit.publish.earlier import earlier_merge
from mdm_kit.publish.repository import KEPT_ENDING, Head, Place, look, make
from mdm_kit.publish.uploading import upload
from mdm_kit.recipe import Push
from mdm_kit.run.outlet import Published
from mdm_kit.run.progress import Progress
from mdm_kit.words import shown

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi


def publish(
    api: HfApi,
    place: Place,
    folder: Path,
    manifest: Manifest,
    progress: Progress,
    stored: Mapping[str, CommitOperationAdd] | None = None,
) -> Published:
    """Let the branch hold the merge in `folder`, whose bytes are those of `manifest`.

    `stored` are the operations on files that were uploaded before, by name; those need not lie in
    the folder. Kept models go to a repository of their own before, and the published manifest says
    to which commit. Texts were looked through for secrets already. Raises `UploadsLost` for stored
    files the Hub has no more and the folder neither, `SourceError` where the Hub refuses,
    `IntegrityError` where it holds something else afterwards.
    """
    head, push = _head(place), place.push
    earlier = earlier_merge(api, push.repo, head)
    refuse_foreign(push.repo, head.files, earlier)
    deltas = _publish_kept(api, place, folder, manifest, earlier, progress)
    manifest = manifest.published_with(deltas)
    files = bundle_files(folder, manifest)
    wanted = changes(head.files, earlier, files)
    done = _brought_about(api, place, wanted, files, manifest, progress, stored or {})
    return Published(
        repo=push.repo,
        revision=place.branch,
        commit=done,
        private=head.private,
        changed=bool(wanted),
        n_files=len(wanted.add) + len(wanted.delete),
        sent_nbytes=sum(f.nbytes for f in wanted.add),
        deltas=deltas.repo if deltas else None,
    )


def _publish_kept(
    api: HfApi,
    place: Place,
    folder: Path,
    manifest: Manifest,
    earlier: Manifest | None,
    progress: Progress,
) -> DeltasEntry | None:
    """Publish the kept models beside the merge; return where they are, None where it keeps none.

    The commit an earlier push has named stays while it holds the same files, wherever the branch
    has moved since: else that alone would be another merge.
    """
    files = kept_files(folder, manifest)
    if not all(file.is_here for file in files):
        return manifest.deltas  # a copy of a published merge, whose kept models lie where they lay
    if not files:
        return None
    repo = place.push.repo + KEPT_ENDING
    named = earlier.deltas if earlier is not None else None
    if named is not None and named.repo == repo:
        found = found_at(api, repo, named.commit, files)
        if all(f.is_like(found.get(f.name)) for f in files):
            return named
    push = Push(repo, private=_head(place).private, message=place.push.message)
    beside = make(api, look(api, push))
    remote = _head(beside).files
    refuse_foreign(repo, [name for name in remote if not is_kept(name)], None)
    names = {f.name for f in files}
    wanted = Changes(
        add=tuple(f for f in files if not f.is_like(remote.get(f.name))),
        delete=tuple(name for name in remote if is_kept(name) and name not in names),
    )
    return DeltasEntry(repo, _brought_about(api, beside, wanted, files, manifest, progress, {}))


def _brought_about(
    api: HfApi,
    place: Place,
    wanted: Changes,
    files: Sequence[BundleFile],
    manifest: Manifest,
    progress: Progress,
    stored: Mapping[str, CommitOperationAdd],
) -> str:
    """Commit what is wanted, and return the commit that holds all `files`."""
    if not wanted:
        return _head(place).commit
    try:
        done = _commit(api, place, wanted, manifest, progress, stored)
    except UploadsLost:
        if not stored or not all(file.is_here for file in wanted.add):
            raise
        progress.say("the Hub lost what was uploaded; uploading it again")
        done = _commit(api, place, wanted, manifest, progress, {})
    check_commit(api, place.push.repo, done, files)
    return done


def _commit(
    api: HfApi,
    place: Place,
    wanted: Changes,
    manifest: Manifest,
    progress: Progress,
    stored: Mapping[str, CommitOperationAdd],
) -> str:
    operations = [stored[f.name] for f in wanted.add if f.name in stored]
    rest = [f for f in wanted.add if f.name not in stored]
    operations += _uploaded(api, place, rest, progress)
    title = place.push.message or f"mdm_kit {manifest.history[-1].operation}: {manifest.method}"
    body = f"Plan {manifest.plan}, by {manifest.tool}."
    return commit(api, place.push, _head(place), wanted, operations, title, body)


def _uploaded(
    api: HfApi, place: Place, files: Sequence[BundleFile], progress: Progress
) -> list[CommitOperationAdd]:
    """Upload the large files one by one, the small ones together."""
    large, small = [f for f in files if f.is_large], [f for f in files if not f.is_large]
    operations = []
    if large:
        progress.say(f"uploading to {shown(place.push.repo)}")
        progress.start(sum(f.nbytes for f in large), 0)
    for file in large:
        operations += upload(api, place.push, [file])
        progress.advance(file.nbytes)
    return [*operations, *(upload(api, place.push, small) if small else ())]


def _head(place: Place) -> Head:
    assert place.head is not None  # noqa: S101 -- whoever publishes has made the place
    return place.head
