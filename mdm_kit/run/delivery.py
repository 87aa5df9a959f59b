"""Hands finished shards to an outlet and keeps the journal's word of what has arrived."""

from __future__ import annotations

from pathlib import Path

from mdm_kit.bundle.shard_file import ShardDigests
from mdm_kit.bundle.stage import Stage
from mdm_kit.errors import UploadsLost
from mdm_kit.ledger.entries import FileEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.planner.layout import Shard
from mdm_kit.planner.plan import Plan
from mdm_kit.run.journal import Journal
from mdm_kit.run.outlet import SHARDS_AT_ONCE, Outlet, Published


class Delivery:
    """What happens to the shards of one merge once they are finished; nothing without an outlet."""

    def __init__(self, stage: Stage, journal: Journal, outlet: Outlet | None) -> None:
        """Deliver from the model folder of `stage`."""
        self._stage, self._journal, self._outlet = stage, journal, outlet

    def is_away(self, shard: str) -> bool:
        """Whether a finished shard need not lie here because it has arrived where it belongs."""
        outlet = self._outlet
        return (
            outlet is not None
            and not outlet.keeps
            and shard in self._journal.shards
            and self._journal.sent.get(shard) == outlet.place
        )

    def room_nbytes(self, plan: Plan) -> int:
        """Return how much more room the merge takes on disk."""
        left = [s.nbytes for s in plan.shards if not self.is_away(s.name)]
        made = [
            s.nbytes
            for s in plan.shards
            if s.name in self._journal.shards and not self.is_away(s.name)
        ]
        if self._outlet is not None and not self._outlet.keeps:
            left = sorted(left)[-SHARDS_AT_ONCE:]
        more = plan.costs.disk_nbytes - plan.costs.write_nbytes - self._stage.begun_nbytes
        return more + sum(left) - sum(made)

    def resume(self, shard: Shard, digests: ShardDigests) -> None:
        """Take up a shard that an earlier run has finished."""
        outlet = self._outlet
        if outlet is None:
            return
        if self._journal.sent.get(shard.name) == outlet.place:
            outlet.took(shard.name, _entry(shard, digests))
        else:
            self.deliver(shard, digests)

    def await_room(self) -> None:
        """Wait until the next shard may be begun."""
        if self._outlet is not None:
            self._outlet.await_room()

    def settle(self) -> None:
        """Wait until nothing is read from the model folder any more."""
        if self._outlet is not None:
            self._outlet.settle()

    def deliver(self, shard: Shard, digests: ShardDigests) -> None:
        """Send a shard that stands on disk, finished and noted."""
        outlet = self._outlet
        if outlet is None:
            return
        path = self._stage.model / shard.name

        def arrived() -> None:
            self._journal.sent_to(shard.name, outlet.place)
            if not outlet.keeps:
                path.unlink()

        outlet.take(path, _entry(shard, digests), arrived)

    def publish(self, folder: Path, manifest: Manifest) -> Published | None:
        """Publish the finished merge; None without an outlet.

        Raises what the outlet raises; the journal then knows which shards are lost.
        """
        if self._outlet is None:
            return None
        try:
            return self._outlet.publish(folder, manifest)
        except UploadsLost:
            if not self._outlet.keeps:
                self._journal.lost()
            raise


def _entry(shard: Shard, digests: ShardDigests) -> FileEntry:
    return FileEntry(shard.nbytes, digests.sha256)
