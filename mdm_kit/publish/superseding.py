"""Says on an older model's card that a newer one takes its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError, UsageError
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.publish.access import check_right
from mdm_kit.publish.bundle_files import of_bytes
from mdm_kit.publish.changes import Changes
from mdm_kit.publish.committing import commit
from mdm_kit.publish.refusals import told
from mdm_kit.publish.repository import Place
from mdm_kit.publish.uploading import upload
from mdm_kit.recipe import Push
from mdm_kit.run.side_files import CARD_NAME
from mdm_kit.sources.hub_failures import patiently
from mdm_kit.words import shown

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
_LINE = re.compile(r"^new_version:.*(?:\n|\Z)", re.MULTILINE)
MAX_CARD_NBYTES = 10 << 20


def older_place(api: HfApi, old: str, new: str, manifest: Manifest) -> Place:
    """Return the repository that is to be superseded.

    Raises `UsageError` where the merge has nothing taken out, or the two are one; `SourceError`
    where the old one is not there or not to be written to.
    """
    if old == new:
        raise UsageError(f"{shown(old)} cannot supersede itself; name the older repository")
    if not any(event.operation == "unmerge" for event in manifest.history):
        raise UsageError(
            "--supersedes is for a merge that a model was taken out of, and nothing was taken out "
            "of this one; publish it without"
        )
    place = check_right(api, Push(old))
    if place.head is None or CARD_NAME not in place.head.files:
        raise UsageError(
            f"the repository {shown(old)} has no {CARD_NAME} to say on that it is superseded; "
            "check the name"
        )
    return place


def supersede(api: HfApi, place: Place, new: str) -> None:
    """Let the old card's front matter name the new model, in one commit, or none if it does."""
    push, head = place.push, place.head
    assert head is not None  # noqa: S101 -- older_place saw to it
    if (head.files[CARD_NAME].size or 0) > MAX_CARD_NBYTES:
        raise IntegrityError(f"{CARD_NAME} of {shown(push.repo)} is too large to be a card")
    with told(push.repo):
        path = patiently(lambda: api.hf_hub_download(push.repo, CARD_NAME, revision=head.commit))
    card = Path(path).read_bytes().decode("utf-8", "surrogateescape")
    file = of_bytes(CARD_NAME, with_new_version(card, new).encode("utf-8", "surrogateescape"))
    if file.is_like(head.files[CARD_NAME]):
        return
    operations = upload(api, push, [file])
    commit(api, push, head, Changes((file,), ()), operations, f"Superseded by {new}", "")


def with_new_version(card: str, new: str) -> str:
    """Return a card whose front matter says `new_version: new`, and is else as it was."""
    line = f"new_version: {new}\n"
    front = _FRONT.match(card)
    if front is None:
        return f"---\n{line}---\n\n{card}"
    inside = _LINE.sub("", front[1])
    return f"---\n{inside}{line}---{card[front.end() :]}"
