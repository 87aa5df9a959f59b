"""Pushes a finished folder: checks every byte of it, then publishes it."""

from __future__ import annotations

from pathlib import Path

from mdm_kit.bundle.verify import read_manifest, verify_files
from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.history import history_faults
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.publish.access import check_access
from mdm_kit.publish.bundle_files import bundle_files, is_kept
from mdm_kit.publish.exposure import copied_from_hub, refuse_exposures, texts_within, title_of
from mdm_kit.publish.publishing import publish
from mdm_kit.publish.repository import client, make
from mdm_kit.publish.superseding import older_place, supersede
from mdm_kit.recipe import Push
from mdm_kit.run.outlet import Published
from mdm_kit.run.progress import Progress
from mdm_kit.sources import FolderSite
from mdm_kit.words import shown

_FAULTS_SHOWN = 10


def push_folder(
    folder: Path, push: Push, progress: Progress, supersedes: str | None = None
) -> Published:
    """Publish the merge in `folder`: one commit, and none where it is there already.

    The card of the model `supersedes`, of which the merge is what is left, then says so.

    Raises `SourceError` where there is no merge, nobody is logged in or may not write, or the Hub
    refuses; `IntegrityError` where the folder is not what its manifest says; `UsageError` for
    names that cannot be, another visibility, a branch with another model, and secrets.
    """
    manifest = read_manifest(FolderSite(folder))
    api = client()
    keeps = any(is_kept(name) for name in manifest.files) and manifest.deltas is None
    place = check_access(api, push, keeps_models=keeps)
    older = older_place(api, supersedes, push.repo, manifest) if supersedes else None
    _check_bytes(folder, manifest, progress)
    texts = [title_of(push), *bundle_files(folder, manifest), *texts_within(folder, manifest)]
    refuse_exposures(folder, texts, copied_from_hub(manifest))
    published = publish(api, make(api, place), folder, manifest, progress)
    if older is not None:
        supersede(api, older, push.repo)
    return published


def _check_bytes(folder: Path, manifest: Manifest, progress: Progress) -> None:
    entries = [*manifest.files.values(), *manifest.shards.values()]
    progress.say("checking every byte against the manifest")
    progress.start(sum(e.nbytes for e in entries), 0)
    found = verify_files(FolderSite(folder), progress.advance)
    faults = [*found.faults, *history_faults(found.manifest)]
    if faults:
        rest = len(faults) - _FAULTS_SHOWN
        more = f"; and {rest} more" if rest > 0 else ""
        raise IntegrityError(
            f"{shown(str(folder))} is not what its manifest says, so nothing was published: "
            f"{'; '.join(faults[:_FAULTS_SHOWN])}{more}. Get the original folder again, or merge "
            "anew"
        )
