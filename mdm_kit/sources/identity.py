"""What a source is (fingerprint) and whether it is still the same on this machine (witness)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mdm_kit.sources.seam import CheckpointFile

WINDOWS = 16
WINDOW_BYTES = 4096
"""16 windows of one page: 64 KiB per file, read in milliseconds, told apart any two fine-tunes."""


def digest_of(value: object) -> str:
    """Return `sha256:` and the hex digest of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def is_as_listed(data: bytes, *, sha256: str | None, oid: str | None) -> bool:
    """Return whether bytes are those of a listing: by sha256 (hex), else by git blob id.

    True where the listing names neither.
    """
    if sha256 is not None:
        return hashlib.sha256(data).hexdigest() == sha256
    if oid is not None:
        return git_blob(data) == oid
    return True


def git_blob(data: bytes) -> str:
    """Return the id git gives a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def fingerprint(
    files: Sequence[CheckpointFile], read_at: Callable[[str, memoryview, int], None]
) -> str:
    """Return the identity of weight files: names, sizes, headers and windows of their data.

    An identity, not a proof: a change between the windows does not show. `file_digest` proves.
    """
    return digest_of(
        [
            {
                "name": file.name,
                "nbytes": file.nbytes,
                "header": file.header_sha256,
                "windows": _windows(file, read_at),
            }
            for file in sorted(files, key=lambda f: f.name)
        ]
    )


def _windows(file: CheckpointFile, read_at: Callable[[str, memoryview, int], None]) -> str:
    """Return the sha256 over up to 16 evenly spaced windows, all the data where it is short."""
    digest = hashlib.sha256()
    room = file.nbytes - file.header_nbytes
    if room <= WINDOWS * WINDOW_BYTES:
        spans = [(file.header_nbytes, room)]
    else:
        last = room - WINDOW_BYTES
        spans = [
            (file.header_nbytes + last * i // (WINDOWS - 1), WINDOW_BYTES) for i in range(WINDOWS)
        ]
    for offset, length in spans:
        view = memoryview(bytearray(length))
        read_at(file.name, view, offset)
        digest.update(view)
    return digest.hexdigest()
