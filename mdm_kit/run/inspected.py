"""What is known of a recipe's models before they are merged: values, and what follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

INSPECTION_SCHEMA = "mdm_kit/inspection/1"

KindOfChange = Literal["full fine-tune", "adapter", "merged adapter", "partial", "identical"]


@dataclass(frozen=True, slots=True)
class MapStructure:
    """How the energy, the squared norm, of one linear map's change lies in its directions.

    `top_16` and `top_64` are shares of the energy in the largest singular directions; `rank_90` the
    least rank that holds 90 per cent, None where it is above those looked at. `rank_above_noise`
    counts singular values the rounding of the stored dtype cannot explain, None where what is left
    is more than rounding: then the change is of no low rank.
    """

    tensor: str
    shape: tuple[int, int]
    top_16: float
    top_64: float
    rank_90: int | None
    rank_above_noise: int | None


@dataclass(frozen=True, slots=True)
class InspectedModel:
    """What one model changed of the base.

    `norm` is of the whole change, `share` of the base's norm over the same tensors, `changed` the
    share of elements. `rank` is an adapter's own, or the one a merged adapter seems to have.
    `unchanged` names what a partial change leaves; `not_compared` tensors that have no counterpart
    of the same shape in the base, or are no floating numbers.
    """

    name: str
    norm: float
    share: float
    changed: float
    kind: KindOfChange
    rank: int | None
    unchanged: tuple[str, ...]
    not_compared: tuple[str, ...]
    maps: tuple[MapStructure, ...]


@dataclass(frozen=True, slots=True)
class PairCosine:
    """The cosine of two whole changes, and the smallest and largest over layers.

    None where one of the changes is zero. What is in no layer counts as one more layer.
    """

    one: str
    other: str
    cosine: float | None
    smallest: float | None
    largest: float | None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, and the figure it follows from."""

    rule: str
    figure: str
    text: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """A recipe's models beside what they are compared with, and advice.

    `reference` is that model's name, `is_base` whether the recipe calls it the base. `notes` say
    what was not inspected. `read_nbytes` are offered by the models in one pass, `again_nbytes`
    were read once more, for the maps whose directions were looked at.
    """

    reference: str
    is_base: bool
    models: tuple[InspectedModel, ...]
    pairs: tuple[PairCosine, ...]
    notes: tuple[str, ...]
    read_nbytes: int
    again_nbytes: int
    advice: tuple[Advice, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the inspection as JSON types."""
        return {"schema": INSPECTION_SCHEMA, **asdict(self)}
