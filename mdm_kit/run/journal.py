"""The journal: what is finished, so that a killed merge goes on where it stopped.

Lines of JSON. The first holds the key of the merge. Another names a finished shard and its sha256,
and is written after the shard has its name on disk; or it holds inner products of deltas, which
took a reading of the models. A torn line is as if it had never been written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdm_kit.maths.orthogonal import Gram


class Journal:
    """A journal on disk: the merge's key, digests of finished shards, measured Gram matrices.

    `exact` are those from compensated sums.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there; a missing or torn file reads as an empty one."""
        self._path = path
        self.key: str | None = None
        self.shards: dict[str, str] = {}
        self.grams: dict[str, Gram] = {}
        self.exact: dict[str, Gram] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        for line in self._path.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
                if self.key is None:
                    self.key = str(entry["key"])
                    continue
                grams, exact = _read_grams(entry["grams"]), _read_grams(entry["exact"])
                if "shard" in entry:
                    self.shards[str(entry["shard"])] = str(entry["sha256"])
                self.grams |= grams
                self.exact |= exact
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # torn; what was written behind it after a restart is whole

    def start(self, key: str) -> None:
        """Begin anew for the merge with this key."""
        self.key, self.shards, self.grams, self.exact = key, {}, {}, {}
        self._path.unlink(missing_ok=True)
        self._append({"key": key})

    def measured(self, grams: Mapping[str, Gram], exact: Mapping[str, Gram]) -> None:
        """Note the Gram matrices of tensors that were read to measure them."""
        self.grams |= grams
        self.exact |= exact
        self._append({"grams": _plain(grams), "exact": _plain(exact)})

    def finished(
        self, shard: str, sha256: str, grams: Mapping[str, Gram], exact: Mapping[str, Gram]
    ) -> None:
        """Note that a shard stands on disk under its name, and what was measured on the way."""
        self.shards[shard] = sha256
        self.grams |= grams
        self.exact |= exact
        entry = {"shard": shard, "sha256": sha256, "grams": _plain(grams), "exact": _plain(exact)}
        self._append(entry)

    def _append(self, entry: dict[str, Any]) -> None:
        # A line torn by a crash is cut off by starting on a new line.
        with self._path.open("ab") as file:
            file.write(b"\n" if file.tell() and not self._ends_clean() else b"")
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _ends_clean(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def _plain(grams: Mapping[str, Gram]) -> dict[str, list[float]]:
    return {name: list(gram.triangle) for name, gram in grams.items()}


def _read_grams(rows: dict[str, list[float]]) -> dict[str, Gram]:
    return {name: Gram(tuple(map(float, row))) for name, row in rows.items()}
