"""Operations of a commit on files whose digest is known, so that no byte is hashed or sent twice.

The only place that touches what the Hub's client keeps to itself; tests hold it to each version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.publish.bundle_files import BundleFile

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd


def adding(file: BundleFile) -> CommitOperationAdd:
    """Return the operation that adds a file that is here."""
    from huggingface_hub import CommitOperationAdd

    operation = CommitOperationAdd(file.name, file.content)
    operation.upload_info.sha256 = bytes.fromhex(file.sha256)
    return operation


def adding_stored(name: str, nbytes: int, sha256: str) -> CommitOperationAdd:
    """Return the operation that adds a file the Hub's storage has and this machine need not."""
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.lfs import UploadInfo

    operation = CommitOperationAdd(name, b"")
    operation.upload_info = UploadInfo(size=nbytes, sample=b"", sha256=bytes.fromhex(sha256))
    operation._upload_mode = "lfs"  # noqa: SLF001
    operation._should_ignore = False  # noqa: SLF001
    operation._is_uploaded = True  # noqa: SLF001
    return operation


def is_stored(operation: CommitOperationAdd) -> bool:
    """Return whether the Hub's storage has the file; a small one travels in the commit instead."""
    return operation._is_uploaded  # noqa: SLF001


def is_ignored(operation: CommitOperationAdd) -> bool:
    """Return whether the repository's .gitignore keeps the file out; the client obeys it."""
    return bool(operation._should_ignore)  # noqa: SLF001
