"""Every method's parameters, written in every way, reach each tensor with mergekit's values."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
import yaml
from families import random_tensor

import mdm_kit
from mdm_kit.methods.contract import Method, ParamSpec
from mdm_kit.methods.registry import methods
from mdm_kit.planner.nodes import Write
from mdm_kit.planner.patterns import depths
from mdm_kit.sources import MemorySource

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not importlib.util.find_spec("mergekit"), reason="mergekit is not installed"
    ),
    pytest.mark.filterwarnings("ignore"),  # of its imports
]

NAMES = [
    "model.embed_tokens.weight",
    *(
        f"model.layers.{i}.{part}.weight"
        for i in range(5)
        for part in ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
    ),
    "model.norm.weight",
    "lm_head.weight",
]
STYLES = (
    "plain",
    "gradient",
    "filters",
    "fall through",
    "one filter",
    "slice",
    "at the top",
    "star",
)


def values(spec: ParamSpec, style: str, shift: float) -> Any:
    """A setting of one parameter; numbers stay between 0 and 1 and fit every method."""
    if spec.type is bool:
        low, high = False, True
    elif spec.name == "max_iter":
        low, high = 5, 5
    else:
        low, high = 0.2 + shift, 0.4 + shift
        if spec.name in ("epsilon", "gamma", "eps", "tol"):
            low, high = 0.01, 0.02
    if style == "gradient":
        return [low, high, low]
    if style == "filters":
        return [
            {"filter": "mlp", "value": [high, low]},
            {"filter": "self_attn", "value": high},
            {"value": low},
        ]
    if style == "fall through":
        return [{"filter": "self_attn", "value": [low, high]}]
    if style == "one filter":
        return {"filter": "layers.3", "value": high}
    if style == "star":
        return [{"filter": "norm", "value": low}, {"filter": "*", "value": [low, high]}]
    return high if style == "plain" else low


def document(method: Method, style: str) -> dict[str, Any]:
    n = min(2, method.max_models or 2)
    listed = [f"m{i + 1}" for i in range(n)]
    if method.base == "first":
        listed = ["base", *listed]
    specs = method.params.specs()
    partial = style in ("fall through", "one filter")
    own_style = "plain" if style == "at the top" else style
    made: dict[str, Any] = {"merge_method": method.name}
    if method.base != "ignored" and method.base != "counted":
        made["base_model"] = "base"
    beneath = {s.name: values(s, "gradient", 0.1) for s in specs}
    shared = {s.name: values(s, own_style, 0.0) for s in specs if not s.per_model}
    top = beneath if partial else {s.name: values(s, "plain", 0.1) for s in specs}
    entries = []
    for i, name in enumerate(listed):
        own = {s.name: values(s, own_style, 0.1 * i) for s in specs if s.per_model}
        entries.append(
            {"model": name}
            | ({"parameters": own} if style != "at the top" and name != "base" else {})
        )
    if style == "slice":
        sources = [e | {"layer_range": [0, 5]} for e in entries]
        made["slices"] = [{"sources": sources, "parameters": shared}]
        made["parameters"] = top
        return made
    made["models"] = entries
    made["parameters"] = top if partial else top | shared
    return made


def theirs(made: dict[str, Any], name: str, t: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return mergekit's shared values, and those of each model by its name."""
    from mergekit import merge_methods
    from mergekit.config import ConfigReader, MergeConfiguration, OutputSliceDefinition
    from mergekit.parameter_resolver import resolve_parameters

    config = MergeConfiguration.model_validate(made)
    if config.slices:
        (piece,) = config.slices
    else:
        sources = [{**m.model_dump(), "layer_range": [0, 5]} for m in config.models]
        piece = OutputSliceDefinition.model_validate({"sources": sources})
    reader = ConfigReader(config=config, t=t, slice_out=piece)
    shared, each = resolve_parameters(
        merge_methods.get(config.merge_method).spec,
        tensor_name=name,
        inputs={source.model: name for source in piece.sources},
        sources=reader.parameter_sources,
        base_model=config.base_model,
        t=t,
    )
    return shared, {str(model): found for model, found in each.items()}


def ours(write: Write, method: Method) -> tuple[dict[str, Any], dict[str, Any]]:
    apply = write.apply()
    assert apply is not None
    reads = [getattr(i, "source", i).info.source for i in apply.inputs]
    models = [r for r in reads if r != "base"]
    specs = method.params.specs()
    shared = {s.name: getattr(apply.params, s.field) for s in specs if not s.per_model}
    each = {
        model: {s.name: getattr(apply.params, s.field)[i] for s in specs if s.per_model}
        for i, model in enumerate(models)
    }
    return shared, each


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", sorted(n for n, m in methods().items() if m.dialect))
def test_values_are_mergekit_s(name: str, style: str) -> None:
    method = methods()[name]
    made = document(method, style)
    generator = torch.Generator().manual_seed(1)
    tensors = {n: random_tensor((2, 2), torch.float32, generator) for n in NAMES}
    given = {m: MemorySource.from_tensors(m, tensors) for m in ("base", "m1", "m2")}
    place = depths(NAMES)
    with mdm_kit.plan(yaml.safe_dump(made), sources=given) as plan:
        assert len(plan.writes) == len(NAMES)
        for write in plan.writes:
            shared, each = ours(write, method)
            their_shared, their_each = theirs(made, write.name, place[write.name])
            for key, value in shared.items():
                assert value == pytest.approx(their_shared[key], abs=1e-15), (write.name, key)
            for model, found in each.items():
                for key, value in found.items():
                    want = their_each[model].get(key)
                    want = 1.0 if want is None else want  # passthrough's scale may be left out
                    assert value == pytest.approx(want, abs=1e-15), (write.name, model, key)
