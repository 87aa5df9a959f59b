"""What kind of change a model is, by which tensors changed and how."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from statistics import median_low

from mdm_kit.planner.patterns import layer_position
from mdm_kit.run.inspected import KindOfChange, MapStructure
from mdm_kit.words import TensorInfo

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def representatives(changed: Collection[str], tensors: Mapping[str, TensorInfo]) -> list[str]:
    """Return the maps to look at: of each kind the largest in the first, middle and last layer.

    Of those that changed. A kind is a name without numbers; of equal ones, as experts are, the
    first by name counts.
    """
    kinds: dict[str, dict[int, list[str]]] = {}
    for name in sorted(changed):
        at = layer_position(name)
        if at is not None and len(tensors[name].shape) == 2 and min(tensors[name].shape) > 1:
            kinds.setdefault(kind_name(name), {}).setdefault(at.index, []).append(name)
    found = []
    for layers in kinds.values():
        order = sorted(layers)
        chosen = dict.fromkeys((order[0], order[len(order) // 2], order[-1]))
        found += [max(layers[i], key=lambda n: tensors[n].n_elements) for i in chosen]
    return found


def kind_of(
    changed: Collection[str],
    tensors: Mapping[str, TensorInfo],
    maps: Sequence[MapStructure],
    adapter_rank: int | None,
) -> tuple[KindOfChange, int | None, tuple[str, ...]]:
    """Return the kind of a change, its rank if it has one, and what a partial one leaves.

    `changed` are the tensors that changed, of the base's `tensors`; `maps` some of them.
    """
    if adapter_rank is not None:
        return "adapter", adapter_rank, ()
    if not changed:
        return "identical", None, ()
    ranks = [m.rank_above_noise for m in maps if m.rank_above_noise is not None]
    are_maps = all(layer_position(n) is not None and len(tensors[n].shape) == 2 for n in changed)
    if are_maps and maps and len(ranks) == len(maps):
        return "merged adapter", median_low(ranks), ()
    left = _left(changed, tensors)
    return ("partial", None, left) if left else ("full fine-tune", None, ())


def _left(changed: Collection[str], tensors: Mapping[str, TensorInfo]) -> tuple[str, ...]:
    """Return layers and kinds of which nothing changed; vectors are too coarse to tell of kinds."""
    every, moved = list(tensors), set(changed)
    layers = {at.stack + str(at.index): n for n in every if (at := layer_position(n))}
    of = {at.stack + str(at.index) for n in moved if (at := layer_position(n))}
    matrices = [n for n in every if len(tensors[n].shape) > 1]
    kinds = {kind_name(n) for n in moved}
    still = [k for k in dict.fromkeys(map(kind_name, matrices)) if k not in kinds]
    return (*(name for name in layers if name not in of), *still)


def kind_name(name: str) -> str:
    """Return a tensor's name without its numbers, of layer and expert."""
    return _NUMBER.sub("*", name)
