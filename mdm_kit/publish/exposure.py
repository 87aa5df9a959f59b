"""Refuses to publish tokens, keys and paths of this machine that stand in a merge's files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from mdm_kit.errors import UsageError
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.planner.parents import LOCAL_NAME
from mdm_kit.publish.bundle_files import BundleFile, of_bytes
from mdm_kit.recipe import Push
from mdm_kit.secrets import findings_in
from mdm_kit.sources import LEGAL, is_side_file
from mdm_kit.sources.kept_container import Container
from mdm_kit.sources.kept_facts import HEAD, SIDE
from mdm_kit.sources.safetensors_header import LENGTH_BYTES

_SAMPLE_NBYTES = 1 << 13
_MAX_HEADER_NBYTES = 64 << 20
_MOST = 128 << 20
"""No header or side file of a kept model is larger."""
_SHOWN_AT_MOST = 10


def refuse_exposures(
    folder: Path, files: Iterable[BundleFile], public: Collection[str] = ()
) -> None:
    """Raise `UsageError` naming file, line and kind of what must not be published, never its text.

    Files whose names are `public` were copied from the Hub: the paths in them are somebody else's.
    Of weight files but shards, the metadata is looked at; other files with a NUL are none of text.
    """
    from huggingface_hub import get_token

    token, paths = get_token(), _paths_of(folder)
    found = [
        exposure
        for file in files
        if (data := _text_of(file))
        for exposure in findings_in(
            file.name, data, token=token, paths=None if file.name in public else paths
        )
    ]
    if not found:
        return
    rest = len(found) - _SHOWN_AT_MOST
    more = f"; and {rest} more" if rest > 0 else ""
    raise UsageError(
        f"nothing was published, because these must not be: "
        f"{'; '.join(map(str, found[:_SHOWN_AT_MOST]))}{more}. Take them out of the recipe or the "
        "model the file is from, and merge again; renew a token that others may have seen"
    )


def copied_from_hub(manifest: Manifest) -> frozenset[str]:
    """Return the names of side files that are those of a model on the Hub."""
    bases = [s for s in manifest.sources if s.role == "base"]
    donor = (bases or manifest.sources)[0]
    # Of several documents any model may have given them.
    givers = manifest.sources if manifest.stages else [donor]
    if any(giver.repo is None for giver in givers):
        return frozenset()
    return frozenset(name for name in manifest.files if is_side_file(name) or name in LEGAL)


def texts_within(folder: Path, manifest: Manifest) -> list[BundleFile]:
    """Return the texts that the files of kept models hold compressed: headers and side files.

    Of models from folders alone: what a model of the Hub says can be read there. Raises
    `IntegrityError` for a damaged file.
    """
    found = []
    for source in manifest.sources:
        if source.kept is None or source.repo is not None or not (folder / source.kept).is_file():
            continue
        with Container(source.name, folder / source.kept) as container:
            found += [
                of_bytes(f"{source.kept}: {entry[len(HEAD) :]}", container.small(entry, _MOST))
                for entry in container.entries
                if entry.startswith((HEAD, SIDE))
            ]
    return found


def title_of(push: Push) -> BundleFile:
    """Return the commit's title as a text to look through."""
    return of_bytes("the commit's title", (push.message or "").encode())


def _text_of(file: BundleFile) -> bytes:
    if file.is_large:
        return b""
    if file.name.endswith(".safetensors"):
        data = file.read()
        length = int.from_bytes(data[:LENGTH_BYTES], "little")
        return data[LENGTH_BYTES : LENGTH_BYTES + min(length, _MAX_HEADER_NBYTES)]
    data = file.read()
    return b"" if b"\0" in data[:_SAMPLE_NBYTES] else data


def _paths_of(folder: Path) -> list[str]:
    """Return where this machine keeps the models of a merge, as far as the folder says."""
    try:
        places = json.loads((folder / LOCAL_NAME).read_bytes())
    except (OSError, ValueError):
        return []
    return [p for p in places.values() if isinstance(p, str)] if isinstance(places, dict) else []
