"""The journal: what is finished, so that a killed merge goes on where it stopped.

Lines of JSON. The first holds the key of the merge and when it was begun. Another names a finished
shard and its digests, and is written after the shard has its name on disk; or it holds inner
products of deltas, which took a reading of the models, or says how tensors were summed; or it says
to where a shard was sent, or that what was sent is lost; or it holds digests of what was read from
afar. A torn line is as if it had never been written.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mdm_kit.bundle.shard_file import ShardDigests
from mdm_kit.ledger.entries import SummedTensor
from mdm_kit.ledger.manifest import plain
from mdm_kit.maths.orthogonal import Gram


class Journal:
    """A journal on disk: the merge's key and time, finished shards, measured Gram matrices.

    `exact` are those from compensated sums; `facts` say how tensors were summed, `sums` have a
    digest of the sums that lie in files, `noise` the squared norm of what those are wrong by;
    `sent` says by shard to which repository it was uploaded, `seen` the digests of far files, None
    where the work has not come that far. Safe to use from several threads.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there; a missing or torn file reads as an empty one."""
        self._path = path
        self._writing = threading.Lock()
        self.key: str | None = None
        self.time = ""
        self.shards: dict[str, ShardDigests] = {}
        self.sent: dict[str, str] = {}
        self.seen: dict[str, dict[str, str]] | None = None
        self.grams: dict[str, Gram] = {}
        self.exact: dict[str, Gram] = {}
        self.facts: dict[str, SummedTensor] = {}
        self.sums: dict[str, str] = {}
        self.noise: dict[str, float] = {}
        self.stages: dict[str, dict[str, ShardDigests]] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        for line in self._path.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
                if self.key is None:
                    self.key, self.time = str(entry["key"]), str(entry["time"])
                else:
                    self._take(entry)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # torn; what was written behind it after a restart is whole

    def _take(self, entry: dict[str, Any]) -> None:
        if "sent" in entry:
            self.sent[str(entry["sent"])] = str(entry["to"])
            return
        if "seen" in entry:
            self.seen = {
                str(model): {str(file): str(digest) for file, digest in files.items()}
                for model, files in entry["seen"].items()
            }
            return
        if "stage" in entry:
            self.stages[str(entry["stage"])] = {
                str(shard): ShardDigests(str(sha256), tuple(map(str, tensors)))
                for shard, (sha256, tensors) in entry["digests"].items()
            }
            return
        if "lost" in entry:
            self._drop(map(str, entry["lost"]))
            return
        if "facts" in entry:
            facts = {str(n): SummedTensor(**f) for n, f in entry["facts"].items()}
            sums = {str(n): str(digest) for n, digest in entry["sums"].items()}
            self.noise |= {n: float(entry["noise"][n]) for n in facts}
            self.facts |= facts
            self.sums |= sums
            return
        grams, exact = _read_grams(entry["grams"]), _read_grams(entry["exact"])
        if "shard" in entry:
            digests = ShardDigests(str(entry["sha256"]), tuple(map(str, entry["tensors"])))
            self.shards[str(entry["shard"])] = digests
        self.grams |= grams
        self.exact |= exact

    def start(self, key: str) -> None:
        """Begin anew for the merge with this key."""
        self.key, self.time = key, datetime.now(UTC).isoformat(timespec="seconds")
        self.shards, self.sent, self.seen, self.grams, self.exact = {}, {}, None, {}, {}
        self.facts, self.sums, self.noise, self.stages = {}, {}, {}, {}
        self._path.unlink(missing_ok=True)
        self._append({"key": key, "time": self.time})

    def measured(self, grams: Mapping[str, Gram], exact: Mapping[str, Gram]) -> None:
        """Note the Gram matrices of tensors that were read to measure them."""
        self.grams |= grams
        self.exact |= exact
        self._append({"grams": _plain(grams), "exact": _plain(exact)})

    def summed(
        self,
        facts: Mapping[str, SummedTensor],
        sums: Mapping[str, str],
        noise: Mapping[str, float],
    ) -> None:
        """Note how tensors were summed; what files hold of their sums is on disk."""
        self.facts |= facts
        self.sums |= sums
        self.noise |= noise
        said = {name: plain(fact) for name, fact in facts.items()}
        self._append({"facts": said, "sums": dict(sums), "noise": dict(noise)})

    def finished(
        self,
        shard: str,
        digests: ShardDigests,
        grams: Mapping[str, Gram],
        exact: Mapping[str, Gram],
    ) -> None:
        """Note that a shard stands on disk under its name, and what was measured on the way."""
        self.shards[shard] = digests
        self.grams |= grams
        self.exact |= exact
        self._append(
            {
                "shard": shard,
                "sha256": digests.sha256,
                "tensors": digests.tensors,
                "grams": _plain(grams),
                "exact": _plain(exact),
            }
        )

    def staged(self, name: str, shards: Mapping[str, ShardDigests]) -> None:
        """Note that a stage stands on disk, whole."""
        self.stages[name] = dict(shards)
        said = {shard: [d.sha256, d.tensors] for shard, d in shards.items()}
        self._append({"stage": name, "digests": said})

    def sent_to(self, shard: str, place: str) -> None:
        """Note that a finished shard was uploaded to `place`, whole."""
        self.sent[shard] = place
        self._append({"sent": shard, "to": place})

    def saw(self, digests: dict[str, dict[str, str]]) -> None:
        """Note the sha256 of far files that came by whole, by model and file.

        A run that only has to finish what another has made will not see them again, and is to write
        the same manifest.
        """
        self.seen = digests
        self._append({"seen": digests})

    def lost(self) -> None:
        """Note that what was sent is to be had no more: those shards count as never made."""
        names = list(self.sent)
        self._drop(names)
        self._append({"lost": names})

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            self.shards.pop(name, None)
            self.sent.pop(name, None)

    def _append(self, entry: dict[str, Any]) -> None:
        # A line torn by a crash is cut off by starting on a new line.
        with self._writing, self._path.open("ab") as file:
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
