"""The journal: which shards are finished, so that a killed merge goes on where it stopped.

Lines of JSON. The first holds the key of the merge; every other names a finished shard and its
sha256, and is written after the shard has its name on disk. A torn last line is as if it had never
been written.
"""

from __future__ import annotations

import json
import os
from pathlib import Path


class Journal:
    """A journal on disk."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a missing or torn file reads as an empty one."""
        self._path = path
        self.key: str | None = None
        self.shards: dict[str, str] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        for line in self._path.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
                if self.key is None:
                    self.key = str(entry["key"])
                else:
                    self.shards[str(entry["shard"])] = str(entry["sha256"])
            except (ValueError, KeyError, TypeError):
                return

    def start(self, key: str) -> None:
        """Begin anew for the merge with this key."""
        self.key, self.shards = key, {}
        self._path.unlink(missing_ok=True)
        self._append({"key": key})

    def finished(self, shard: str, sha256: str) -> None:
        """Note that a shard stands on disk under its name."""
        self.shards[shard] = sha256
        self._append({"shard": shard, "sha256": sha256})

    def _append(self, entry: dict[str, str]) -> None:
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
