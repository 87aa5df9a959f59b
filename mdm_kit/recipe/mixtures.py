"""A mixture of experts as mergekit-moe writes it: experts, their prompts, how gates are made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mdm_kit.recipe.keys import EXPERT_KEYS, GATE_MODES
from mdm_kit.recipe.model import Expert, Mixture, ModelEntry
from mdm_kit.recipe.models import known_entries, read_name
from mdm_kit.recipe.names import Naming, name_models
from mdm_kit.recipe.references import read_reference
from mdm_kit.recipe.scalars import Scalar, WrongValue
from mdm_kit.recipe.values import choice_of, scalar_of
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, SequenceNode, kind_of

if TYPE_CHECKING:
    from mdm_kit.recipe.collector import Collector

_FORM = "write a list: - {source_model: owner/name, positive_prompts: [...]}"
MAX_PROMPTS = 1000
"""Of one expert; each is run through the base."""


def read_mixture(
    values: dict[str, Node], found: Collector
) -> tuple[tuple[ModelEntry, ...], Mixture]:
    """Return every model of a mixture once, in order, and the mixture."""
    experts = _read_experts("experts", values["experts"], found)
    node = _said(values.get("shared_experts"))
    shared = () if node is None else _read_experts("shared_experts", node, found)
    entries: dict[object, ModelEntry] = {}
    for expert in (*experts, *shared):
        known = entries.setdefault(expert.entry.ref, expert.entry)
        if expert.entry.named and not known.named:
            entries[expert.entry.ref] = expert.entry
    wanted = [Naming(e.ref, e.name if e.named else None, e.place) for e in entries.values()]
    names = dict(zip(entries, name_models(wanted, found), strict=True))
    models = tuple(replace(e, name=names[e.ref]) for e in entries.values())
    mixture = Mixture(
        experts=_renamed(experts, names),
        shared=_renamed(shared, names),
        gate_mode=_mode(_said(values.get("gate_mode")), found),
        per_token=_count(_said(values.get("experts_per_token")), found),
        architecture=_text(_said(values.get("architecture")), found),
    )
    return models, mixture


def _renamed(experts: tuple[Expert, ...], names: dict[object, str]) -> tuple[Expert, ...]:
    return tuple(replace(e, entry=replace(e.entry, name=names[e.entry.ref])) for e in experts)


def _said(node: Node | None) -> Node | None:
    """Return what stands behind a key, None where that is YAML's null."""
    return None if isinstance(node, Scalar) and node.is_null else node


def _read_experts(key: str, node: Node, found: Collector) -> tuple[Expert, ...]:
    if not isinstance(node, SequenceNode):
        found.error(f"{key}: expected a list, found {kind_of(node)}", node.place, _FORM)
        return ()
    if not node.items:
        found.error(f"{key}: expected at least one expert, found an empty list", node.place, _FORM)
    read = [_read_expert(key, item, found) for item in node.items]
    return tuple(expert for expert in read if expert is not None)


def _read_expert(key: str, node: Node, found: Collector) -> Expert | None:
    if not isinstance(node, MappingNode):
        message = f"{key}: expected a mapping with the key 'source_model', found {kind_of(node)}"
        found.error(message, node.place, _FORM)
        return None
    values = known_entries(node, EXPERT_KEYS, {}, "of an expert", found)
    if "source_model" not in values:
        found.error(f"{key}: this expert has no 'source_model'", node.place, _FORM)
        return None
    located = read_reference(values["source_model"], "source_model", found)
    given = read_name(values["name"], found) if "name" in values else None
    if located is None:
        return None
    return Expert(
        ModelEntry(located, given or "", (), node.place, given is not None),
        _prompts("positive_prompts", _said(values.get("positive_prompts")), found),
        _prompts("negative_prompts", _said(values.get("negative_prompts")), found),
        _number("noise_scale", _said(values.get("noise_scale")), 0.0, found),
        _number("residual_scale", _said(values.get("residual_scale")), 1.0, found),
    )


def _prompts(key: str, node: Node | None, found: Collector) -> tuple[str, ...]:
    if node is None:
        return ()
    form = f"write {key}: [a text, another]"
    if not isinstance(node, SequenceNode):
        found.error(f"{key}: expected a list of texts, found {kind_of(node)}", node.place, form)
        return ()
    if len(node.items) > MAX_PROMPTS:
        message = f"{key}: expected at most {MAX_PROMPTS:,} texts, found {len(node.items):,}"
        found.error(message, node.place)
        return ()
    texts = []
    for item in node.items:
        if isinstance(item, Scalar) and item.text and not item.is_null:
            texts.append(item.text)
        else:
            what = "an empty text" if isinstance(item, Scalar) else kind_of(item)
            found.error(f"{key}: expected a text, found {what}", item.place, form)
    return tuple(texts)


def _number(key: str, node: Node | None, default: float, found: Collector) -> float:
    scalar = None if node is None else scalar_of(key, node, found)
    if scalar is None:
        return default
    try:
        return float(scalar.as_number())
    except WrongValue as problem:
        found.wrong(key, problem, scalar.place)
        return default


def _count(node: Node | None, found: Collector) -> int | None:
    scalar = None if node is None else scalar_of("experts_per_token", node, found)
    if scalar is None:
        return None
    try:
        number = scalar.as_integer()
    except WrongValue as problem:
        found.wrong("experts_per_token", problem, scalar.place)
        return None
    if number < 1:
        message = f"experts_per_token: expected 1 or more, found {number}"
        found.error(message, scalar.place)
        return None
    return number


def _mode(node: Node | None, found: Collector) -> str:
    default = GATE_MODES[0]
    return (
        default if node is None else choice_of("gate_mode", node, GATE_MODES, (), found) or default
    )


def _text(node: Node | None, found: Collector) -> str | None:
    scalar = None if node is None else scalar_of("architecture", node, found)
    return scalar.text if scalar is not None and scalar.text else None
