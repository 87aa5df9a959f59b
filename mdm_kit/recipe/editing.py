"""A recipe with models taken out or put in, as a new text.

The text is written anew, key by key: what a comment said of the old recipe need not be true of the
new one. Values keep the letters they were written with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdm_kit.recipe.model import Filters, Gradient, Setting
from mdm_kit.recipe.quoting import quoted
from mdm_kit.recipe.tokenizer import ModelToken, Zero

if TYPE_CHECKING:
    from mdm_kit.recipe.model import Filtered, Mixture, ModelEntry, Parameter, Recipe, Slice
    from mdm_kit.recipe.scalars import Scalar
    from mdm_kit.recipe.tokenizer import RowSource, Tokenizer

_SAFE = re.compile(r"[A-Za-z0-9_.+-]+")
"""Plain scalars that mean the same between the brackets of a flow collection."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A model to put in: its reference, and its name and weight where they are given."""

    reference: str
    name: str | None = None
    weight: float | None = None


def edited_text(
    recipe: Recipe,
    *,
    drop: Collection[str] = (),
    add: Sequence[Addition] = (),
    reset: Collection[str] = (),
) -> str:
    """Return the text of `recipe` without the models named in `drop` and with those of `add`.

    Added models stand behind the others. Parameters named in `reset` are left out everywhere, so
    that they have their defaults.
    """
    documents = [*(_lines(stage, drop, (), reset) for stage in recipe.stages)]
    documents.append(_lines(recipe, drop, add, reset))
    return "---\n".join("\n".join(lines) + "\n" for lines in documents)


def _lines(
    recipe: Recipe, drop: Collection[str], add: Sequence[Addition], reset: Collection[str]
) -> Iterator[str]:
    yield f"merge_method: {_scalar(recipe.merge_method)}"
    if recipe.base_model is not None:
        yield f"base_model: {quoted(str(recipe.base_model.ref))}"
    if recipe.mixture is not None:
        yield from _mixture(recipe.mixture, drop)
    elif recipe.modules:
        yield from _pieces(recipe, drop, reset)
    elif recipe.is_sliced:
        yield from ("slices:", "  - sources:")
        yield from _models("      ", recipe.models, drop, add, reset)
    else:
        yield "models:"
        yield from _models("  ", recipe.models, drop, add, reset)
    yield from _parameters("", recipe.parameters, reset)
    for key, dtype in (("dtype", recipe.dtype), ("out_dtype", recipe.out_dtype)):
        if dtype is not None:
            yield f"{key}: {dtype.torch_name}"
    if recipe.seed:
        yield f"seed: {recipe.seed}"
    yield from _tokenizer(recipe.tokenizer)
    if recipe.chat_template is not None:
        yield f"chat_template: {quoted(recipe.chat_template.text)}"
    for key, text in (("name", recipe.name), ("license", recipe.license)):
        if text is not None:
            yield f"{key}: {quoted(text)}"
    if recipe.on_mismatch != "error":
        yield f"on_mismatch: {recipe.on_mismatch}"
    if recipe.ledger != "references":
        yield f"ledger: {{keep: {quoted(recipe.ledger)}}}"


def _mixture(mixture: Mixture, drop: Collection[str]) -> Iterator[str]:
    for key, experts in (("experts", mixture.experts), ("shared_experts", mixture.shared)):
        left = [e for e in experts if e.entry.name not in drop]
        if left:
            yield f"{key}:"
        for expert in left:
            yield f"  - source_model: {quoted(str(expert.entry.ref))}"
            if expert.entry.named:
                yield f"    name: {quoted(expert.entry.name)}"
            for name, texts in (("positive", expert.positive), ("negative", expert.negative)):
                if texts:
                    yield f"    {name}_prompts: [{', '.join(map(quoted, texts))}]"
            if expert.noise_scale:
                yield f"    noise_scale: {expert.noise_scale!r}"
            if expert.residual_scale != 1.0:
                yield f"    residual_scale: {expert.residual_scale!r}"
    yield f"gate_mode: {mixture.gate_mode}"
    if mixture.per_token is not None:
        yield f"experts_per_token: {mixture.per_token}"
    if mixture.architecture is not None:
        yield f"architecture: {quoted(mixture.architecture)}"


def _models(
    indent: str,
    entries: Sequence[ModelEntry],
    drop: Collection[str],
    add: Sequence[Addition],
    reset: Collection[str],
) -> Iterator[str]:
    ranges = {entry.layer_range for entry in entries}
    for entry in entries:
        if entry.name not in drop:
            yield f"{indent}- model: {quoted(str(entry.ref))}"
            if entry.named:
                yield f"{indent}  name: {quoted(entry.name)}"
            yield from _range(indent, entry.layer_range)
            yield from _parameters(f"{indent}  ", entry.parameters, reset)
    for new in add:
        yield f"{indent}- model: {quoted(new.reference)}"
        if new.name is not None:
            yield f"{indent}  name: {quoted(new.name)}"
        yield from _range(indent, next(iter(ranges)))
        if new.weight is not None:
            yield f"{indent}  parameters: {{weight: {new.weight!r}}}"


def _range(indent: str, layers: tuple[int, int] | None) -> Iterator[str]:
    if layers is not None:
        yield f"{indent}  layer_range: [{layers[0]}, {layers[1]}]"


def _pieces(recipe: Recipe, drop: Collection[str], reset: Collection[str]) -> Iterator[str]:
    """Yield the slices or modules without the models that leave, and without what is left empty."""
    indent = ""
    if recipe.modules[0].name is not None:
        yield "modules:"
        indent = "    "
    for module in recipe.modules:
        slices = [s for s in module.slices if any(m.name not in drop for m in s.models)]
        if not slices:
            continue
        if module.name is not None:
            yield f"  {quoted(module.name)}:"
        whole = slices[0].models[0].layer_range is None
        yield f"{indent}{'models' if whole else 'slices'}:"
        for s in slices:
            if whole:
                yield from _models(f"{indent}  ", s.models, drop, (), reset)
            else:
                yield from _slice(indent, s, drop, reset)
        yield from _parameters(indent, module.parameters, reset)


def _slice(indent: str, s: Slice, drop: Collection[str], reset: Collection[str]) -> Iterator[str]:
    yield f"{indent}  - sources:"
    yield from _models(f"{indent}      ", s.models, drop, (), reset)
    if s.base_model is not None:
        yield f"{indent}    base_model: {quoted(str(s.base_model.ref))}"
    yield from _parameters(f"{indent}    ", s.parameters, reset)


def _tokenizer(asked: Tokenizer | None) -> Iterator[str]:
    if asked is None:
        return
    source = asked.source if isinstance(asked.source, str) else quoted(str(asked.source.ref))
    yield "tokenizer:"
    yield f"  source: {source}"
    if asked.tokens:
        yield "  tokens:"
    for rule in asked.tokens:
        row = "" if rule.source is None else f"source: {_row_source(rule.source)}"
        force = "force: true" if rule.force else ""
        yield f"    {quoted(rule.token)}: {{{', '.join(filter(None, (row, force)))}}}"
    if asked.pad_to_multiple_of is not None:
        yield f"  pad_to_multiple_of: {asked.pad_to_multiple_of}"


def _row_source(source: RowSource) -> str:
    if isinstance(source, Zero):
        return "{kind: zero}"
    if not isinstance(source, ModelToken):
        return quoted(str(source.ref))
    which = f"token_id: {source.token_id}"
    if source.token is not None:
        which = f"token: {quoted(source.token)}"
    return f"{{kind: model_token, model: {quoted(str(source.model.ref))}, {which}}}"


def _parameters(
    indent: str, parameters: Sequence[Parameter], reset: Collection[str]
) -> Iterator[str]:
    kept = [p for p in parameters if p.name not in reset]
    if kept:
        yield f"{indent}parameters:"
    for p in kept:
        name = p.name if _SAFE.fullmatch(p.name) else quoted(p.name)
        yield f"{indent}  {name}: {_setting(p.setting)}"


def _setting(setting: Setting) -> str:
    if isinstance(setting, Gradient):
        return f"[{', '.join(map(_scalar, setting.values))}]"
    if isinstance(setting, Filters):
        return f"[{', '.join(map(_filtered, setting.entries))}]"
    return _scalar(setting)


def _filtered(entry: Filtered) -> str:
    where = "" if entry.filter is None else f"filter: {quoted(entry.filter)}, "
    return f"{{{where}value: {_setting(entry.value)}}}"


def _scalar(scalar: Scalar) -> str:
    return scalar.text if scalar.plain and _SAFE.fullmatch(scalar.text) else quoted(scalar.text)
