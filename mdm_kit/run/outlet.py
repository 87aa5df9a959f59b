"""The way out: where finished shards go while others are still being made, and the rest after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mdm_kit.ledger.entries import FileEntry
from mdm_kit.ledger.manifest import Manifest

SHARDS_AT_ONCE = 2
"""Finished shards that wait or are on their way, at most; where none stay on this machine, one that
is being made counts as one of them."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a push has come to: the repository and the commit that holds the merge.

    `changed` is false where it was there already; then nothing was committed. `sent_nbytes` are the
    bytes of the files that were handed to the Hub, which stores none of them twice. `deltas` is the
    repository the kept models went to, None where there are none.
    """

    repo: str
    revision: str
    commit: str
    private: bool
    changed: bool
    n_files: int
    sent_nbytes: int
    deltas: str | None = None


class Outlet(Protocol):
    """Takes finished shards, and at the end the whole merge. Used from the merging thread alone."""

    @property
    def place(self) -> str:
        """Where the shards go, by a name that stays the same from run to run."""

    @property
    def keeps(self) -> bool:
        """Whether shards stay on this machine, too; else each is deleted once it has arrived."""

    def await_room(self) -> None:
        """Return when one more shard may be begun: at most one other waits or is on its way.

        Raises what stopped the uploads, unless shards stay here anyway.
        """

    def take(self, path: Path, entry: FileEntry, arrived: Callable[[], None]) -> None:
        """Send a finished shard; `arrived` is called, from any thread, when it is there whole."""

    def took(self, name: str, entry: FileEntry) -> None:
        """Count on a shard that arrived in an earlier run."""

    def settle(self) -> None:
        """Return when nothing waits or is on its way any more; raises like `await_room`."""

    def publish(self, folder: Path, manifest: Manifest) -> Published:
        """Make public, in one commit, what `manifest` says; `folder` holds what is not sent yet.

        Raises `UploadsLost` where shards that were sent are gone and not here any more,
        `SourceError` where the Hub refuses, `IntegrityError` where it holds something else
        afterwards.
        """
