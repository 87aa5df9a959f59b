"""Merges and publishes in one go: shards travel while the next ones are being made."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.bundle.stage import work_folder
from mdm_kit.bundle.verify import read_manifest
from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.planner.plan import Plan
from mdm_kit.publish.access import check_access, refuse_going_public
from mdm_kit.publish.bundle_files import is_kept, kept_files, of_bytes
from mdm_kit.publish.committing import found_at
from mdm_kit.publish.earlier import earlier_merge
from mdm_kit.publish.exposure import refuse_exposures, title_of
from mdm_kit.publish.outlet import HubOutlet
from mdm_kit.publish.pushing import push_folder
from mdm_kit.publish.repository import Head, Place, client
from mdm_kit.recipe import Push
from mdm_kit.run.merge import Merged, Restart, run_plan
from mdm_kit.run.outlet import Published
from mdm_kit.run.profile import Profile
from mdm_kit.run.progress import Progress, Silent
from mdm_kit.run.side_files import recipe_as_written
from mdm_kit.sources import FolderSite
from mdm_kit.words import shown

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def merge_and_push(
    plan: Plan,
    out: Path,
    push: Push,
    *,
    local: bool = True,
    device: str = "auto",
    restart: Restart = "auto",
    overwrite: bool = False,
    hash_sources: bool = False,
    progress: Progress | None = None,
) -> Merged:
    """Merge into `out` and publish; without `local`, publish alone, two shards on disk at most.

    What is published already, or finished in `out` by an earlier run, is not made again, unless
    `restart` is `fresh`. Raises what `run_plan` and `push_folder` raise; where only the push fails,
    `out` is finished and can be pushed later.
    """
    plan.check()
    out = Path(os.path.abspath(out))  # noqa: PTH100 -- resolve() would follow a link at OUT
    told = progress or Silent()
    api = client()
    place = check_access(api, push, keeps_models=plan.recipe.keeps_files)
    refuse_going_public(place, plan.terms.private_because)
    text = recipe_as_written(plan)
    said = [title_of(push), of_bytes("the recipe", text.encode())]
    refuse_exposures(out, said)  # now, not after the work
    there = here = None
    if restart != "fresh":
        there = _standing(api, place, plan, text)
        here = _finished(out, plan, text) if local else None
    if there and (here or not (local or work_folder(out).exists())):
        told.say(f"{shown(push.repo)} holds this merge already; there is nothing to do")
        return _merged(out, here or there[0], there[1])
    if here:
        told.say(f"{shown(str(out))} holds this merge already; publishing it")
        return _merged(out, here, push_folder(out, push, told))
    run = partial(
        run_plan,
        plan,
        out,
        device=device,
        restart=restart,
        overwrite=overwrite,
        hash_sources=hash_sources,
        progress=told,
    )
    if there and local:
        told.say(f"{shown(push.repo)} holds this merge already; making it here alone")
        return replace(run(), published=there[1])
    with HubOutlet(api, place, told, keeps=local) as outlet:
        return run(outlet=outlet)


def _standing(api: HfApi, place: Place, plan: Plan, text: str) -> tuple[Manifest, Published] | None:
    """Return the merge the branch holds if it is this one, whole."""
    head = place.head
    if head is None:
        return None
    manifest = earlier_merge(api, place.push.repo, head)
    if manifest is None or not _is_of(plan, text, manifest) or not _is_whole(manifest, head):
        return None
    if not _has_kept(api, manifest):
        return None
    repo, branch = place.push.repo, place.branch
    deltas = manifest.deltas.repo if manifest.deltas else None
    return manifest, Published(repo, branch, head.commit, head.private, False, 0, 0, deltas)


def _is_whole(manifest: Manifest, head: Head) -> bool:
    """Whether sizes, and digests of large files, are what the manifest says."""
    for name, entry in {**manifest.shards, **manifest.files}.items():
        remote = head.files.get(name)
        if is_kept(name):
            continue
        if remote is None or remote.size != entry.nbytes:
            return False
        if remote.sha256 is not None and f"sha256:{remote.sha256}" != entry.sha256:
            return False
    return True


def _has_kept(api: HfApi, manifest: Manifest) -> bool:
    """Whether the files a merge keeps are where it says, whole."""
    there = manifest.deltas
    if there is None:
        return True
    files = kept_files(Path(), manifest)
    found = found_at(api, there.repo, there.commit, files)
    return all(file.is_like(found.get(file.name)) for file in files)


def _finished(out: Path, plan: Plan, text: str) -> Manifest | None:
    """Return the manifest of a folder that an earlier run has finished for the same plan."""
    try:
        manifest = read_manifest(FolderSite(out))
    except (SourceError, IntegrityError):
        return None
    return manifest if _is_of(plan, text, manifest) else None


def _is_of(plan: Plan, text: str, manifest: Manifest) -> bool:
    # The recipe's text names every model by commit or content.
    return manifest.history[-1].plan == plan.digest and manifest.recipe == text


def _merged(out: Path, manifest: Manifest, published: Published) -> Merged:
    shards = {name: entry.sha256 for name, entry in manifest.shards.items()}
    nbytes = sum(entry.nbytes for entry in manifest.shards.values())
    return Merged(out, manifest.plan, shards, nbytes, Profile(), manifest, published)
