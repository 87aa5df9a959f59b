"""Uploads files ahead of the commit that names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mdm_kit.errors import UsageError
from mdm_kit.publish.bundle_files import BundleFile
from mdm_kit.publish.operations import adding, is_ignored
from mdm_kit.publish.refusals import cause_of, told
from mdm_kit.publish.repository import MAIN
from mdm_kit.recipe import Push
from mdm_kit.sources.hub_failures import patiently
from mdm_kit.words import shown

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi


def upload(api: HfApi, push: Push, files: Sequence[BundleFile]) -> list[CommitOperationAdd]:
    """Bring files to the Hub's storage and return the operations that will add them.

    What is stored there already is not sent again; small files travel in the commit. Failures that
    pass by themselves are waited for. Raises `UsageError` where the repository ignores a file,
    `SourceError` where the Hub refuses.
    """
    operations = [adding(file) for file in files]

    def attempt() -> None:
        try:
            api.preupload_lfs_files(
                push.repo,
                operations,
                revision=push.revision or MAIN,
                free_memory=False,
            )
        except Exception as error:  # noqa: BLE001 -- the client hides what happened
            raise cause_of(error) from None

    with told(push.repo):
        patiently(attempt)
    ignored = [o.path_in_repo for o in operations if is_ignored(o)]
    if ignored:
        raise UsageError(
            f"the repository {shown(push.repo)} has a .gitignore that leaves out "
            f"{shown(ignored[0])}; take that line out of it on the Hub and run again"
        )
    return operations
