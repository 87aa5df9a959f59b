"""The Hugging Face cache as a folder: what of a repository is on this machine already.

models--org--name/refs/<revision>            holds a commit
models--org--name/snapshots/<commit>/<file>  links to ../../blobs/<digest the Hub declares>
"""

from __future__ import annotations

import os
import re
import uuid
from typing import TYPE_CHECKING

from mdm_kit.sources.hub_listing import Listed
from mdm_kit.sources.hub_names import COMMIT

if TYPE_CHECKING:
    from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{7,39}")


def repo_folder(cache: Path, repo_id: str) -> Path:
    """Return where the cache keeps a model repository."""
    return cache / "--".join(("models", *repo_id.split("/")))


def cached_commit(folder: Path, revision: str) -> str | None:
    """Return the commit `revision` stood for when something was last downloaded, if known."""
    if COMMIT.fullmatch(revision):
        return revision if (folder / "snapshots" / revision).is_dir() else None
    try:
        commit = (folder / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        commit = ""
    if COMMIT.fullmatch(commit):
        return commit
    if _PREFIX.fullmatch(revision) and (folder / "snapshots").is_dir():
        found = [p.name for p in (folder / "snapshots").iterdir() if p.name.startswith(revision)]
        if len(found) == 1 and COMMIT.fullmatch(found[0]):
            return found[0]
    return None


def cached_files(folder: Path, commit: str) -> dict[str, Listed]:
    """Return the files of a commit that are in the cache, by name with `/`.

    A blob of 64 hex digits is named after the sha256 the Hub declared for it.
    """
    root = folder / "snapshots" / commit
    files: dict[str, Listed] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            blob = os.path.basename(os.readlink(path)) if path.is_symlink() else ""  # noqa: PTH115, PTH119
            sha256 = blob if _SHA256.fullmatch(blob) else None
            files[path.relative_to(root).as_posix()] = Listed(path.stat().st_size, sha256)
    return files


def remember(folder: Path, revision: str, commit: str) -> None:
    """Note that `revision` is `commit`, as the library does, so that it is found offline.

    Does nothing for a commit, or where the cache may not be written.
    """
    if COMMIT.fullmatch(revision):
        return
    ref = folder / "refs" / revision
    try:
        ref.parent.mkdir(parents=True, exist_ok=True)
        fresh = ref.with_name(f"{ref.name}.{uuid.uuid4().hex[:8]}.tmp")
        fresh.write_text(commit, encoding="ascii")
        fresh.replace(ref)
    except OSError:
        return
