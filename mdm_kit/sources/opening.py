"""From a model reference to the source that can read it, from SOURCE to where a merge lies."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.errors import SourceError
from mdm_kit.sources.adapted import AdaptedSource
from mdm_kit.sources.adapter_files import FolderAdapter, HubAdapter
from mdm_kit.sources.folder import FolderSource
from mdm_kit.sources.folder_site import FolderSite
from mdm_kit.sources.hub import HubSource
from mdm_kit.sources.hub_names import is_repo_id
from mdm_kit.sources.hub_site import HubSite
from mdm_kit.sources.whereabouts import at
from mdm_kit.words import shown

if TYPE_CHECKING:
    from mdm_kit.sources.seam import Source
    from mdm_kit.sources.site import Site
    from mdm_kit.words import AdapterRef, ModelRef

_PUBLISHED_FOLDER = re.compile(r"local:.*", re.DOTALL)
"""How a published recipe writes a folder: `local:<base name>@sha256:<digest>`, never its path."""


def open_source(
    ref: ModelRef, name: str, *, download: bool = False, model: Source | None = None
) -> Source:
    """Return the source for `ref`, which the recipe calls `name`. Reads nothing of a Hub model.

    With `download` the weights of a Hub model go through the client's cache. A folder that exists
    wins over a repository of the same name. Where `ref` has an adapter, `model` is what it is put
    on if that is open already, and stays its owner's to close. Raises `SourceError` for a reference
    that names neither.
    """
    if ref.adapter is None:
        path = _folder_of(ref.path, ref.revision, name)
        if path is not None:
            return FolderSource(name, path)
        return HubSource(name, ref.path, ref.revision, download=download)
    adapter = open_adapter(ref.adapter, name, download=download)
    if model is not None:
        return AdaptedSource(name, model, adapter, owned=False)
    model = open_source(replace(ref, adapter=None), name, download=download)
    return AdaptedSource(name, model, adapter)


def open_adapter(ref: AdapterRef, name: str, *, download: bool = False) -> Source:
    """Return the source for an adapter on the model that the recipe calls `name`."""
    path = _folder_of(ref.path, ref.revision, name)
    if path is not None:
        return FolderAdapter(name, path)
    return HubAdapter(name, ref.path, ref.revision, download=download)


def _folder_of(where: str, revision: str | None, name: str) -> Path | None:
    """Return the folder a reference names, None for a repository of the Hub.

    Raises `SourceError` for what can be neither.
    """
    if _PUBLISHED_FOLDER.fullmatch(where):
        raise SourceError(
            f"{at(name)}: '{shown(where)}' stands for a folder of the machine this recipe was "
            "published from; put the path of your copy of that folder in its place"
        )
    path = _as_path(where)
    if path is not None and path.is_dir():
        if revision is not None:
            raise SourceError(
                f"{at(name)}: '{shown(where)}' is a folder, and a folder has no revisions; "
                f"remove '@{shown(revision)}'"
            )
        return path
    if path is not None and path.exists():
        raise SourceError(
            f"{at(name)}: expected a folder, found the file '{shown(where)}'; "
            "give the folder it lies in"
        )
    if _looks_like_path(where):
        raise SourceError(f"{at(name)}: no such folder: '{shown(where)}'.{_guess(where)}")
    if not is_repo_id(where):
        raise SourceError(
            f"{at(name)}: expected a folder or a Hub id such as owner/name, found "
            f"'{shown(where)}'; check the spelling"
        )
    return None


def open_site(where: str | os.PathLike[str] | Site) -> Site:
    """Return where a finished merge lies: a folder, or a repository `owner/name[@revision]`.

    A path that exists wins over a repository of the same name, and only text can name one. Nobody
    is asked yet. Raises `SourceError` for what is neither.
    """
    if not isinstance(where, str | os.PathLike):
        return where
    text = os.fspath(where)
    path = _as_path(text) if isinstance(where, str) else Path(where)
    if path is not None and path.exists():
        return FolderSite(path)
    repo, _, revision = text.partition("@")
    # The oldest models have no owner, but no merge is among them; it is a folder that is not there.
    if not isinstance(where, str) or "/" not in repo or not is_repo_id(repo):
        raise SourceError(f"there is no folder {shown(text)}; check the path")
    if (beside := _as_path(repo)) is not None and beside.is_dir():
        raise SourceError(
            f"'{shown(repo)}' is a folder, and a folder has no revisions; "
            f"remove '@{shown(revision)}'"
        )
    return HubSite(repo, revision or None)


def _as_path(text: str) -> Path | None:
    """Return `text` as a path, `~` expanded; None if no file system could hold it."""
    if not text:  # to pathlib it is the current folder
        return None
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a NUL
        return None
    return path


def _looks_like_path(text: str) -> bool:
    return (
        text in (".", "..")
        or bool(re.match(r"[/~]|\.{1,2}[/\\]", text))
        or (text.count("/") > 1 or "\\" in text or text.endswith("/"))
    )


def _guess(text: str) -> str:
    """Return ` Did you mean ...?` for folders with similar names beside it, else nothing."""
    path = _as_path(text)
    if path is None:
        return " Check the path"
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    except OSError:
        return " Nor is there the folder it should lie in; check the path"
    close = difflib.get_close_matches(path.name, beside, n=3)
    if not close:
        return " Check the path"
    written = text.rstrip("/")
    stem = written[: len(written) - len(path.name)] if written.endswith(path.name) else ""
    return " Did you mean " + " or ".join(f"'{shown(stem + name)}'" for name in close) + "?"
