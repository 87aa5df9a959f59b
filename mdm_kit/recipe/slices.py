"""`slices` that stand for whole models: mergekit's longer way to write `models`.

One slice over every layer says what a list of models says, with a level of parameters between the
models' and the recipe's. Slices that leave layers out, repeat or reorder them are refused; that the
range is every layer is checked against the models when a merge is planned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdm_kit.recipe.keys import SLICE_KEYS, SLICE_REFUSED
from mdm_kit.recipe.model import Filtered, Filters, ModelEntry, Parameter, Setting
from mdm_kit.recipe.models import known_entries, read_models
from mdm_kit.recipe.parameters import read_parameters
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, SequenceNode, kind_of
from mdm_kit.words import Level

if TYPE_CHECKING:
    from mdm_kit.recipe.collector import Collector

_FORM = "write a list: - {sources: [{model: owner/name, layer_range: [0, 32]}]}"


@dataclass(frozen=True, slots=True)
class Slice:
    """The models of a slice, and the parameters all of them have."""

    models: tuple[ModelEntry, ...] = ()
    parameters: tuple[Parameter, ...] = ()


def read_slices(node: Node, found: Collector) -> Slice:
    """Return the one slice of a recipe; what is wrong with it, or with more, is in `found`."""
    if not isinstance(node, SequenceNode):
        found.error(f"slices: expected a list, found {kind_of(node)}", node.place, _FORM)
        return Slice()
    if not node.items:
        found.error("slices: expected at least one slice, found an empty list", node.place, _FORM)
    read = [_read_slice(item, found) for item in node.items]
    if len(read) > 1:
        found.error(
            f"this recipe puts {len(read)} slices together, which is not available in this version",
            node.items[1].place,
            "one slice over all layers is; its parameters may be gradients",
        )
    return read[0] if read else Slice()


def _read_slice(node: Node, found: Collector) -> Slice:
    if not isinstance(node, MappingNode):
        message = f"slices: expected a mapping with the key 'sources', found {kind_of(node)}"
        found.error(message, node.place, _FORM)
        return Slice()
    values = known_entries(node, SLICE_KEYS, SLICE_REFUSED, "of a slice", found)
    if "residual_weight" in values:
        message = "'residual_weight' changes nothing, here as in mergekit"
        found.add(Level.NOTE, message, values["residual_weight"].place)
    if "sources" not in values:
        found.error("slices: this slice has no 'sources'", node.place, _FORM)
    models = read_models(values["sources"], found, key="sources") if "sources" in values else ()
    _check_lengths(models, found)
    parameters = read_parameters(values["parameters"], found) if "parameters" in values else ()
    return Slice(models, parameters)


def _check_lengths(models: tuple[ModelEntry, ...], found: Collector) -> None:
    ranged = [(m, m.layer_range[1] - m.layer_range[0]) for m in models if m.layer_range]
    for entry, length in ranged[1:]:
        if length != ranged[0][1]:
            found.error(
                f"sources: all models of a slice need the same number of layers, found {length} "
                f"beside {ranged[0][1]}",
                entry.place,
            )


def joined(strong: tuple[Parameter, ...], weak: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """Return two levels of parameters as one; where the strong level's filters miss, the weak has
    its say.
    """
    beneath = {p.name: p for p in weak}
    merged = tuple(
        Parameter(p.name, _over(p.setting, beneath[p.name].setting), p.place)
        if p.name in beneath
        else p
        for p in strong
    )
    names = {p.name for p in strong}
    return (*merged, *(p for p in weak if p.name not in names))


def _over(strong: Setting, weak: Setting) -> Setting:
    if not isinstance(strong, Filters) or any(e.filter in (None, "*") for e in strong.entries):
        return strong
    rest = weak.entries if isinstance(weak, Filters) else (Filtered(None, weak, weak.place),)
    return Filters((*strong.entries, *rest), strong.place)
