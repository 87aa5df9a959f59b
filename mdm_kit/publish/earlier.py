"""The merge a repository holds already, by its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError, UsageError
from mdm_kit.ledger.manifest import MANIFEST_NAME, MAX_MANIFEST_NBYTES, Manifest
from mdm_kit.publish.refusals import told
from mdm_kit.publish.repository import Head
from mdm_kit.sources.hub_failures import patiently
from mdm_kit.words import shown

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def earlier_merge(api: HfApi, repo: str, head: Head) -> Manifest | None:
    """Return the manifest at the head of a branch, None where there is none.

    Raises `UsageError` where it is no manifest this version can read: then nobody knows which of
    the files there may be replaced.
    """
    remote = head.files.get(MANIFEST_NAME)
    if remote is None:
        return None
    raw = b""  # no manifest either
    if (remote.size or 0) <= MAX_MANIFEST_NBYTES:
        with told(repo):
            path = patiently(lambda: api.hf_hub_download(repo, MANIFEST_NAME, revision=head.commit))
        raw = Path(path).read_bytes()
    try:
        return Manifest.from_bytes(raw)
    except IntegrityError as error:
        raise UsageError(
            f"the repository {shown(repo)} holds a merge this version cannot read ({error}); "
            "publish to a repository of its own"
        ) from None
