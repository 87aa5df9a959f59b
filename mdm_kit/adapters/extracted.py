"""What an extraction found and wrote, tensor by tensor and in all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Pair:
    """The factors of a linear weight's change.

    `rank` is theirs; `change` is ‖d‖² and `lost` ‖d − BA‖², both of the factors as they are stored.
    """

    tensor: str
    module: str
    shape: tuple[int, ...]
    rank: int
    change: float
    lost: float

    @property
    def kept(self) -> float:
        """The share of the change's energy that the factors hold."""
        return 1.0 - self.lost / self.change

    @property
    def relative_error(self) -> float:
        """‖d − BA‖ / ‖d‖."""
        return math.sqrt(self.lost / self.change)


@dataclass(frozen=True, slots=True)
class Other:
    """A changed tensor no factors were taken from, and why.

    `change` is ‖d‖², 0 where its numbers do not subtract; `saved` if its module goes in whole.
    """

    tensor: str
    shape: tuple[int, ...]
    change: float
    why: str
    saved: bool


@dataclass(frozen=True, slots=True)
class ExtractedLora:
    """An adapter that was written.

    `nbytes` and `model_nbytes` are the sizes of its and the fine-tune's weight files. `clamped` is
    how many weights have a side shorter than the rank asked for. `notes` are lines worth knowing.
    """

    out: Path
    pairs: tuple[Pair, ...]
    others: tuple[Other, ...]
    nbytes: int
    model_nbytes: int
    clamped: int
    notes: tuple[str, ...]

    @property
    def change(self) -> float:
        """The squared norm of everything that changed."""
        return math.fsum([*(p.change for p in self.pairs), *(o.change for o in self.others)])

    @property
    def kept(self) -> float:
        """The share of the whole change's energy that the adapter holds, saved modules included."""
        lost = [*(p.lost for p in self.pairs), *(o.change for o in self.others if not o.saved)]
        return 1.0 - math.fsum(lost) / self.change

    @property
    def relative_error(self) -> float:
        """The norm of what the adapter lacks over the norm of the whole change."""
        return math.sqrt(max(0.0, 1.0 - self.kept))

    def share(self, tensors: Sequence[Pair | Other]) -> float:
        """Return the share of the whole change's energy that lies in `tensors`."""
        return math.fsum(t.change for t in tensors) / self.change

    def to_json(self) -> dict[str, Any]:
        """Return everything, free of NaN and infinity."""
        return {
            "out": str(self.out),
            "nbytes": self.nbytes,
            "model_nbytes": self.model_nbytes,
            "kept": self.kept,
            "relative_error": self.relative_error,
            "clamped": self.clamped,
            "notes": list(self.notes),
            "modules": [
                {
                    "tensor": p.tensor,
                    "module": p.module,
                    "shape": list(p.shape),
                    "rank": p.rank,
                    "kept": p.kept,
                    "relative_error": p.relative_error,
                    "share": self.share([p]),
                }
                for p in self.pairs
            ],
            "others": [{**asdict(o), "share": self.share([o])} for o in self.others],
        }
