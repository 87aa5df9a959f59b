"""`slices` and `modules`: a result put together of layers, some of these models, some of those.

One slice of which no model is the base says what a list of models says, with a level of parameters
between the models' and the recipe's. What layers a model has is checked when a merge is planned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mdm_kit.recipe.keys import MODULE_KEYS, SLICE_KEYS
from mdm_kit.recipe.model import Filtered, Filters, ModelEntry, Module, Parameter, Setting, Slice
from mdm_kit.recipe.models import known_entries, read_models
from mdm_kit.recipe.names import Naming, name_models
from mdm_kit.recipe.parameters import read_parameters
from mdm_kit.recipe.references import read_reference
from mdm_kit.recipe.scalars import Scalar
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, SequenceNode, kind_of
from mdm_kit.words import Level, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mdm_kit.recipe.collector import Collector

_FORM = "write a list: - {sources: [{model: owner/name, layer_range: [0, 32]}]}"
_MODULE_FORM = "write a mapping: text_decoder: {slices: [...]}, or {models: [...]}"


def read_slices(node: Node, found: Collector) -> tuple[Slice, ...]:
    """Return the slices of a recipe in order; what is wrong with them is in `found`."""
    if not isinstance(node, SequenceNode):
        found.error(f"slices: expected a list, found {kind_of(node)}", node.place, _FORM)
        return ()
    if not node.items:
        found.error("slices: expected at least one slice, found an empty list", node.place, _FORM)
    return tuple(_read_slice(item, found) for item in node.items)


def read_modules(node: Node, found: Collector) -> tuple[Module, ...]:
    """Return the modules of a recipe in order; what is wrong with them is in `found`."""
    if not isinstance(node, MappingNode):
        message = f"modules: expected a mapping, found {kind_of(node)}"
        found.error(message, node.place, _MODULE_FORM)
        return ()
    if not node.entries:
        message = "modules: expected at least one module, found an empty mapping"
        found.error(message, node.place, _MODULE_FORM)
    return tuple(_read_module(key, value, found) for key, value in node.entries)


def _read_module(key: Scalar, node: Node, found: Collector) -> Module:
    none = Module(key.text, (), (), key.place)
    if not isinstance(node, MappingNode):
        message = f"modules: expected a mapping under '{shown(key.text, 60)}', found "
        found.error(message + kind_of(node), node.place, _MODULE_FORM)
        return none
    values = known_entries(node, MODULE_KEYS, {}, "of a module", found)
    if ("models" in values) == ("slices" in values):
        what = "both 'models' and 'slices'" if "models" in values else "neither"
        message = f"modules: expected 'models' or 'slices' in '{shown(key.text, 60)}', found {what}"
        found.error(message, key.place, _MODULE_FORM)
        return none
    if "slices" in values:
        slices = read_slices(values["slices"], found)
    else:
        slices = (Slice(read_models(values["models"], found), place=values["models"].place),)
    parameters = read_parameters(values["parameters"], found) if "parameters" in values else ()
    return Module(key.text, slices, parameters, key.place)


def _read_slice(node: Node, found: Collector) -> Slice:
    if not isinstance(node, MappingNode):
        message = f"slices: expected a mapping with the key 'sources', found {kind_of(node)}"
        found.error(message, node.place, _FORM)
        return Slice((), place=node.place)
    values = known_entries(node, SLICE_KEYS, {}, "of a slice", found)
    if "residual_weight" in values:
        message = "'residual_weight' changes nothing, here as in mergekit"
        found.add(Level.NOTE, message, values["residual_weight"].place)
    if "sources" not in values:
        found.error("slices: this slice has no 'sources'", node.place, _FORM)
    models = read_models(values["sources"], found, key="sources") if "sources" in values else ()
    _check_lengths(models, found)
    parameters = read_parameters(values["parameters"], found) if "parameters" in values else ()
    base = values.get("base_model")
    if base is None or (isinstance(base, Scalar) and base.is_null):
        return Slice(models, parameters, None, node.place)
    return Slice(models, parameters, read_reference(base, "base_model", found), node.place)


def _check_lengths(models: tuple[ModelEntry, ...], found: Collector) -> None:
    ranged = [(m, m.layer_range[1] - m.layer_range[0]) for m in models if m.layer_range]
    for entry, length in ranged[1:]:
        if length != ranged[0][1]:
            found.error(
                f"sources: all models of a slice need the same number of layers, found {length} "
                f"beside {ranged[0][1]}",
                entry.place,
            )


def named_alike(
    modules: tuple[Module, ...], found: Collector
) -> tuple[tuple[ModelEntry, ...], tuple[Module, ...]]:
    """Return every model once, in order, and the modules with each model under one name."""
    everywhere = [entry for module in modules for s in module.slices for entry in s.models]
    first: dict[object, ModelEntry] = {}
    for entry in everywhere:
        known = first.setdefault(entry.ref, entry)
        if entry.named and not known.named:
            first[entry.ref] = entry
        elif entry.named and entry.name != known.name:
            message = f"the model '{shown(str(entry.ref))}' has two names, "
            message += f"'{shown(known.name)}' and '{shown(entry.name)}'; give it one"
            found.error(message, entry.place)
    distinct = list(first.values())
    wanted = [Naming(e.ref, e.name if e.named else None, e.place) for e in distinct]
    names = dict(zip(first, name_models(wanted, found), strict=True))
    whole = tuple(replace(e, name=names[e.ref], parameters=(), layer_range=None) for e in distinct)
    return whole, tuple(
        replace(module, slices=tuple(_renamed(module.slices, names))) for module in modules
    )


def _renamed(slices: Iterable[Slice], names: dict[object, str]) -> Iterable[Slice]:
    for s in slices:
        yield replace(s, models=tuple(replace(e, name=names[e.ref]) for e in s.models))


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
