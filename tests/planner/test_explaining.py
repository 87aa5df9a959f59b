"""What `plan --explain` shows: the values of the plan's nodes, in rows that leave nothing out."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from families import tensors

import mdm_kit
from mdm_kit.planner.explaining import Row, explained, values_by_tensor
from mdm_kit.planner.plan import Plan
from mdm_kit.sources import MemorySource

PARTS = ("self_attn.q.weight", "mlp.up.weight", "mlp.down.weight", "norm.weight")
SPEC = {
    "model.embed_tokens.weight": ((3, 2), torch.float32),
    **{
        f"model.layers.{i}.{part}": ((2, 2), torch.float32)
        for i in range(5)
        for part in PARTS
        if part != "norm.weight" or i % 2  # a part that only some layers have
    },
    "vision.blocks.0.mlp.up.weight": ((2,), torch.float32),
    "vision.blocks.1.mlp.up.weight": ((2,), torch.float32),
    "model.norm.weight": ((2,), torch.float32),
    "model.position_ids": ((4,), torch.int64),
}
BASE = "base_model: a/base\n"


def planned(text: str) -> Plan:
    recipe = mdm_kit.read_recipe(text)
    sources = {
        str(located.ref): MemorySource.from_tensors(str(located.ref), tensors(SPEC, 0))
        for located in recipe.references
    }
    return mdm_kit.plan(recipe, sources=sources)


def recipe(weight: str, *, top: str = "{}", second: str = "{}") -> str:
    return (
        f"merge_method: task_arithmetic\n{BASE}models:\n"
        f"  - {{model: a/one, parameters: {{weight: {weight}}}}}\n"
        f"  - {{model: a/two, parameters: {second}}}\nparameters: {top}\n"
    )


def weights(text: str, model: str = "one") -> list[Row]:
    with planned(text) as plan:
        return [r for r in explained(plan) if r.parameter == "weight" and model in r.models]


def test_one_value_is_one_row() -> None:
    (row,) = weights(recipe("0.5", second="{weight: 0.25}"))
    assert row == Row("weight", ("one",), "the model", None, ("*",), (), (0.5,))


def test_models_alike_share_a_row() -> None:
    text = recipe("0.5", second="{weight: 0.5}")
    assert [r.models for r in weights(text)] == [("one", "two")]


def test_a_gradient_is_a_line_over_the_layers_and_its_start_elsewhere() -> None:
    rows = weights(recipe("[0.2, 0.6]", second="{weight: 1}"))
    assert [(r.tensors, r.layers, r.values) for r in rows] == [
        (("model.embed_tokens.weight", "model.norm.weight"), (), (0.2,)),
        (
            tuple(f"model.layers.*.{p}" for p in PARTS if p != "norm.weight"),
            (0, 1, 2, 3, 4),
            (0.2, 0.6),
        ),
        (("model.layers.*.norm.weight",), (1, 3), pytest.approx((0.3, 0.5))),
        (("vision.blocks.*.mlp.up.weight",), (0, 1), (0.2, 0.6)),
    ]


def test_a_gradient_with_a_bend_is_cut_there() -> None:
    rows = weights(recipe("[{filter: q, value: [0, 1, 0.5]}, {value: 1}]", second="{weight: 1}"))
    bent = [(r.layers, r.values) for r in rows if r.filter == "q"]
    assert bent == [((0, 1, 2), (0.0, 1.0)), ((3, 4), (0.75, 0.5))]


def test_switches_are_cut_where_they_change() -> None:
    with planned(recipe("1", second="{weight: 1}", top="{normalize: [no, yes]}")) as plan:
        rows = [r for r in explained(plan) if r.parameter == "normalize"]
    in_layers = [r for r in rows if r.tensors[0].startswith("model.layers.*.self_attn")]
    assert [(r.layers, r.values) for r in in_layers] == [((0, 1, 2, 3), (False,)), ((4,), (True,))]
    assert {r.models for r in rows} == {()}


def test_where_a_value_comes_from() -> None:
    own = "[{filter: mlp.up, value: 0.1}, {filter: embed, value: 0.2}]"
    top = "{weight: [{filter: norm, value: 0.3}, {value: 0.4}], lambda: 2}"
    text = recipe(own, top=top, second="{weight: 0.5}")
    found = {(r.source, r.filter): (r.tensors, r.values) for r in weights(text)}
    assert found == {
        ("the model", "embed"): (("model.embed_tokens.weight",), (0.2,)),
        ("the model", "mlp.up"): (
            ("model.layers.*.mlp.up.weight", "vision.blocks.*.mlp.up.weight"),
            (0.1,),
        ),
        ("the recipe", "norm"): (("model.layers.*.norm.weight", "model.norm.weight"), (0.3,)),
        ("the recipe", None): (
            ("model.layers.*.self_attn.q.weight", "model.layers.*.mlp.down.weight"),
            (0.4,),
        ),
    }
    (second,) = weights(text, "two")
    assert (second.source, second.values) == ("the model", (0.5,))
    with planned(text) as plan:
        sources = {r.parameter: r.source for r in explained(plan)}
    assert (sources["lambda"], sources["normalize"]) == ("the recipe", "default")
    assert "density" not in sources  # it changes nothing here


def test_all_of_a_stack_is_its_beginning() -> None:
    rows = weights(recipe("[{filter: layers, value: 0.1}, {value: 1}]", second="{weight: 1}"))
    assert ("model.layers.*",) in [r.tensors for r in rows]


def test_in_full_it_is_what_the_nodes_hold() -> None:
    text = recipe("[0.2, 0.6]", top="{weight: {filter: mlp, value: 0.5}}", second="{weight: 1}")
    with planned(text) as plan:
        found = values_by_tensor(plan)
    assert found["model.layers.2.mlp.up.weight"] == {
        "weight": {"one": pytest.approx(0.4), "two": 1.0},
        "normalize": False,
        "lambda": 1.0,
        "density": {"one": 1.0, "two": 1.0},
        "rescale": False,
    }
    assert found["model.norm.weight"]["weight"] == {"one": 0.2, "two": 1.0}
    assert "model.position_ids" not in found
    assert len(found) == len(SPEC) - 1


def test_a_base_among_the_models_has_no_values() -> None:
    text = recipe("0.5", second="{weight: 1}").replace("models:\n", "models:\n  - model: a/base\n")
    with planned(text) as plan:
        assert values_by_tensor(plan)["model.norm.weight"]["weight"] == {"one": 0.5, "two": 1.0}


def _covered(row: Row) -> Iterator[str]:
    patterns = [
        re.escape(t).replace(r"\*", ".*" if t.endswith("*") else r"\d+") for t in row.tensors
    ]
    for name, (_, dtype) in SPEC.items():
        layer = re.search(r"(?:layers|blocks)\.(\d+)", name)
        inside = not row.layers or (layer is not None and int(layer[1]) in row.layers)
        if dtype.is_floating_point and inside and any(re.fullmatch(p, name) for p in patterns):
            yield name


@pytest.mark.parametrize(
    "weight",
    [
        "0.5",
        "[0.1, 0.5, 0.5, 0.9]",
        "[1, 0, 1, 0, 1, 0, 1]",
        "[{filter: mlp, value: [0, 1]}, {filter: layers.3, value: 7}, {value: [0.5, 0.6]}]",
        "[{filter: '', value: [1, 2]}]",
        "[{filter: vision, value: 2}, {filter: embed, value: 3}, {value: 1}]",
    ],
)
def test_the_rows_tell_every_value(weight: str) -> None:
    with planned(recipe(weight, second="{weight: 1}")) as plan:
        truth = values_by_tensor(plan)
        rows = [r for r in explained(plan) if r.parameter == "weight" and "one" in r.models]
    told: dict[str, float] = {}
    for row in rows:
        for name in _covered(row):
            assert name not in told
            share = 0.0
            if len(row.values) > 1:
                layer = int(re.findall(r"\.(\d+)\.", name)[0])
                share = (layer - row.layers[0]) / (row.layers[-1] - row.layers[0])
            told[name] = (1 - share) * row.values[0] + share * row.values[-1]
    assert told == {name: pytest.approx(v["weight"]["one"]) for name, v in truth.items()}
