"""What a commit has to change so that a branch holds a merge, and nothing of an earlier one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mdm_kit.bundle.verify import LOADED
from mdm_kit.errors import UsageError
from mdm_kit.ledger.manifest import MANIFEST_NAME, Manifest
from mdm_kit.publish.bundle_files import BundleFile
from mdm_kit.sources import is_side_file
from mdm_kit.sources.hub_listing import Listed
from mdm_kit.words import shown

_WEIGHTS = (*LOADED, ".safetensors.index.json", ".bin.index.json", ".h5", ".msgpack")
_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Changes:
    """Files to add or replace, and names to delete."""

    add: tuple[BundleFile, ...]
    delete: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there is anything to change."""
        return bool(self.add or self.delete)


def changes(
    remote: Mapping[str, Listed], earlier: Manifest | None, files: Sequence[BundleFile]
) -> Changes:
    """Return what makes `remote` hold `files` and no file of the `earlier` merge beside them."""
    names = {file.name for file in files}
    return Changes(
        add=tuple(f for f in files if not f.is_like(remote.get(f.name))),
        delete=tuple(n for n in remote if n in _written_by(earlier) and n not in names),
    )


def refuse_foreign(repo: str, remote: Collection[str], earlier: Manifest | None) -> None:
    """Raise `UsageError` where a branch holds files of a model that mdm_kit did not write.

    A loader would read them beside the merge's, or the merge would replace somebody's work.
    """
    ours = _written_by(earlier)
    foreign = [name for name in remote if name not in ours and is_of_model(name)]
    if not foreign:
        return
    rest = len(foreign) - _NAMED_AT_MOST
    more = f" and {rest} more" if rest > 0 else ""
    raise UsageError(
        f"the repository {shown(repo)} holds a model that mdm_kit did not write: "
        f"{', '.join(map(shown, foreign[:_NAMED_AT_MOST]))}{more}; publish to a repository of its "
        "own, or delete those files on the Hub first"
    )


def is_of_model(name: str) -> bool:
    """Return whether libraries would load, or run, a file of this name from a repository."""
    return is_side_file(name) or PurePosixPath(name).name in LOADED or name.endswith(_WEIGHTS)


def _written_by(manifest: Manifest | None) -> frozenset[str]:
    if manifest is None:
        return frozenset()
    return frozenset({*manifest.shards, *manifest.files, MANIFEST_NAME})
