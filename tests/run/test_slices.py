"""Slices put together: where each tensor comes from, the config, and taking models out again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from families import read_model, write_model
from llamas import Sizes, config, llama

import mdm_kit
from mdm_kit.errors import RecipeError, UsageError
from mdm_kit.recipe import Addition

LAYERS = {"base": 4, "m1": 4, "m2": 6}
KINDS = ["full_attention", "sliding_attention"]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models with layers of different number; `m2` has every other layer of another kind."""
    root = tmp_path_factory.mktemp("sliced")
    for name, n in LAYERS.items():
        sizes = Sizes(n, 8, 12, 16)
        generator = torch.Generator().manual_seed(n + len(name))
        tensors = {
            key: (t.float() + 0.1 * torch.randn(t.shape, generator=generator)).to(t.dtype)
            for key, t in llama(sizes, torch.bfloat16).items()
        }
        kinds = {"layer_types": [KINDS[(i + 1) % 2 if name == "m2" else 0] for i in range(n)]}
        kinds |= {"max_window_layers": 2, "use_sliding_window": name != "m2"}
        write_model(root / name, tensors, config=config(sizes, torch.bfloat16) | kinds)
    return root


def recipe(family: Path, text: str) -> str:
    for name in LAYERS:
        text = text.replace(name.upper(), str(family / name))
    return text


STACKED = """
merge_method: passthrough
slices:
  - sources: [{model: M2, layer_range: [0, 2]}]
  - sources: [{model: M1, layer_range: [1, 4]}]
  - sources: [{model: M2, layer_range: [1, 3]}]
"""
FROM = [("m2", 0), ("m2", 1), ("m1", 1), ("m1", 2), ("m1", 3), ("m2", 1), ("m2", 2)]


def test_each_tensor_is_the_one_the_slices_name(family: Path, tmp_path: Path) -> None:
    mdm_kit.merge(recipe(family, STACKED), tmp_path / "out")
    models = {name: read_model(family / name) for name in LAYERS}
    out = read_model(tmp_path / "out")
    for i, (name, layer) in enumerate(FROM):
        for key, tensor in models[name].items():
            if f"layers.{layer}." in key:
                got = out.pop(key.replace(f"layers.{layer}.", f"layers.{i}."))
                assert torch.equal(got, tensor), key
    assert torch.equal(
        out.pop("model.embed_tokens.weight"), models["m2"]["model.embed_tokens.weight"]
    )
    assert out.keys() == {"model.norm.weight", "lm_head.weight"}
    for key, tensor in out.items():
        assert torch.equal(tensor, models["m2"][key]), key


def test_the_first_slice_gives_the_embedding_and_the_last_the_head(
    family: Path, tmp_path: Path
) -> None:
    text = STACKED.replace("model: M2, layer_range: [0, 2]", "model: M1, layer_range: [0, 2]")
    mdm_kit.merge(recipe(family, text), tmp_path / "out")
    out, m1, m2 = (read_model(f) for f in (tmp_path / "out", family / "m1", family / "m2"))
    assert torch.equal(out["model.embed_tokens.weight"], m1["model.embed_tokens.weight"])
    assert torch.equal(out["model.norm.weight"], m2["model.norm.weight"])
    assert torch.equal(out["lm_head.weight"], m2["lm_head.weight"])


def test_the_config_counts_and_describes_the_layers(family: Path, tmp_path: Path) -> None:
    text = recipe(family, STACKED)
    mdm_kit.merge(text, tmp_path / "out")
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    was = json.loads((family / "m2" / "config.json").read_text())
    kinds = [KINDS[(layer + 1) % 2 if name == "m2" else 0] for name, layer in FROM]
    assert made == was | {"num_hidden_layers": 7, "layer_types": kinds}


def test_layers_that_a_rule_takes_for_another_kind_are_told(family: Path) -> None:
    text = STACKED.replace("M2, layer_range: [0, 2]", "M1, layer_range: [0, 2]")
    with mdm_kit.plan(recipe(family, text)) as plan:
        told = [f.message for f in plan.findings if "max_window_layers" in f.message]
    assert told
    assert ": 2, 5" in told[0]


def test_what_is_left_out_is_listed(family: Path) -> None:
    with mdm_kit.plan(recipe(family, STACKED)) as plan:
        left = {n for n in plan.dropped if "layers." in n}
        told = [f.message for f in plan.findings if "dropped" in f.message]
        content = plan.to_json()
    assert {n.split(".")[2] for n in left} == {"4", "5"}
    assert content["dropped"] == list(plan.dropped)
    assert content["config"]["num_hidden_layers"] == 7
    assert len(told) == 1


SLERPED = """
merge_method: slerp
base_model: M1
slices:
  - sources: [{model: M1, layer_range: [0, 2]}, {model: BASE, layer_range: [1, 3]}]
    parameters: {t: [0, 1]}
  - sources: [{model: M1, layer_range: [2, 4]}, {model: BASE, layer_range: [0, 2]}]
    parameters: {t: [{filter: mlp, value: [1, 0]}]}
parameters: {t: 0.25}
"""


def test_parameters_are_explained_slice_by_slice(family: Path) -> None:
    from mdm_kit.planner.explaining import explained

    with mdm_kit.plan(recipe(family, SLERPED)) as plan:
        rows = explained(plan)
    found = {(row.tensors, row.layers, row.values) for row in rows}
    assert (("model.layers.*",), (0, 1), (0.0, 1.0)) in found
    assert any(row.filter == "mlp" and row.values == (1.0, 0.0) for row in rows), rows
    assert any(row.layers == (2, 3) and row.values == (0.25,) for row in rows), rows


SUMMED = """
merge_method: task_arithmetic
base_model: BASE
slices:
  - sources:
      - {model: BASE, layer_range: [0, 2]}
      - {model: M1, layer_range: [1, 3]}
      - {model: M2, layer_range: [0, 2]}
    parameters: {weight: 0.5}
  - sources:
      - {model: BASE, layer_range: [2, 4]}
      - {model: M2, layer_range: [4, 6], parameters: {weight: [0.1, 0.9]}}
"""


def test_a_model_can_be_taken_out_of_every_slice(family: Path, tmp_path: Path) -> None:
    whole, without = tmp_path / "whole", tmp_path / "without"
    mdm_kit.merge(recipe(family, SUMMED), whole)
    line = "      - {model: M1, layer_range: [1, 3]}\n"
    never = mdm_kit.merge(recipe(family, SUMMED.replace(line, "")), tmp_path / "never")
    found = mdm_kit.unmerge(whole, without, ["m1"])
    assert found.shards == never.shards
    assert mdm_kit.verify(without, deep=True).sound
    assert mdm_kit.verify(whole, deep=True).sound


def test_what_only_whole_models_can_have_is_refused(family: Path, tmp_path: Path) -> None:
    mdm_kit.merge(recipe(family, SUMMED), tmp_path / "out")
    with pytest.raises(UsageError, match="put together of slices"):
        mdm_kit.add(tmp_path / "out", tmp_path / "more", [Addition(str(family / "m1"))])
    with pytest.raises(UsageError, match="rebuild"):
        mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", ["m1"], mode="exact")
    text = SUMMED.replace("task_arithmetic", "covmerge") + "ledger: {keep: state}\n"
    with pytest.raises(RecipeError, match="no model joins or leaves slices"):
        mdm_kit.plan(recipe(family, text))


def test_sums_over_models_go_slice_by_slice(family: Path, tmp_path: Path) -> None:
    line = "      - {model: M2, layer_range: [4, 6], parameters: {weight: [0.1, 0.9]}}\n"
    same = "      - {model: M1, layer_range: [0, 2]}\n      - {model: M2, layer_range: [4, 6]}\n"
    text = SUMMED.replace(line, same).replace("task_arithmetic", "covmerge")
    mdm_kit.merge(recipe(family, text), tmp_path / "out")
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound


def test_the_models_of_a_slice_are_measured_against_one_another(
    family: Path, tmp_path: Path
) -> None:
    for method in ("mdm_oc", "opcm", "covmerge"):
        text = SUMMED.replace("task_arithmetic", method)
        with pytest.raises(RecipeError, match="list the same models in the same order"):
            mdm_kit.plan(recipe(family, text))
    line = "      - {model: M2, layer_range: [4, 6], parameters: {weight: [0.1, 0.9]}}\n"
    both = line.replace("M2, layer_range: [4, 6]", "M1, layer_range: [0, 2]") + line
    text = recipe(family, SUMMED.replace(line, both).replace("task_arithmetic", "mdm_oc"))
    mdm_kit.merge(text, tmp_path / "out")
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound
    lines = [line for line in text.splitlines(keepends=True) if "/m1" not in line]
    never = mdm_kit.merge("".join(lines), tmp_path / "never")
    assert mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", ["m1"]).shards == never.shards


def test_one_slice_from_the_middle_goes_through_an_edit(family: Path, tmp_path: Path) -> None:
    text = """
merge_method: linear
slices:
  - sources:
      - {model: M1, layer_range: [1, 3], parameters: {weight: [{filter: layers.1., value: 1}]}}
      - {model: BASE, layer_range: [1, 3]}
      - {model: M2, layer_range: [1, 3]}
parameters: {weight: 0.5}
"""
    whole = mdm_kit.merge(recipe(family, text), tmp_path / "whole")
    mdm_kit.unmerge(tmp_path / "whole", tmp_path / "less", ["m2"])
    again = mdm_kit.add(tmp_path / "less", tmp_path / "again", [Addition(str(family / "m2"))])
    assert again.shards == whole.shards


WRONG = {
    "too many layers": (
        STACKED.replace("M1, layer_range: [1, 4]", "M1, layer_range: [1, 5]"),
        "m1 has 4 layers, found layer_range [1, 5]",
    ),
    "a base that is no source": (
        SUMMED.replace("      - {model: BASE, layer_range: [2, 4]}\n", "").replace(
            "[4, 6]", "[0, 6]"
        ),
        "put the base among the sources",
    ),
    "the same model twice": (
        SLERPED.replace("{model: BASE, layer_range: [1, 3]}", "{model: M1, layer_range: [1, 3]}"),
        "is taken by the model in line",
    ),
    "too few models": (
        SLERPED.replace(", {model: BASE, layer_range: [1, 3]}", ""),
        "slerp takes 1 model",
    ),
    "a misspelt parameter of a slice": (
        SLERPED.replace("parameters: {t: [0, 1]}", "parameters: {tt: [0, 1]}"),
        "no parameter 'tt'",
    ),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_before_anything_is_read(family: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        mdm_kit.plan(recipe(family, text))
    assert words in str(caught.value)


def test_a_slice_without_its_base_takes_the_layers_all_sources_have(
    family: Path, tmp_path: Path
) -> None:
    one = SUMMED.replace("M1, layer_range: [1, 3]", "M1, layer_range: [0, 2]")
    named = mdm_kit.merge(recipe(family, one), tmp_path / "named")
    line = "      - {model: BASE, layer_range: [0, 2]}\n"
    silent = mdm_kit.merge(recipe(family, one.replace(line, "")), tmp_path / "silent")
    assert named.shards == silent.shards


IDLE = """
merge_method: METHOD
base_model: BASE
slices:
  - sources:
      - {model: M1, layer_range: [0, 2]}
      - {model: M2, layer_range: [1, 3]}
SECOND
parameters: {}
"""


@pytest.mark.parametrize("second", ["", "  - sources: [{model: M1, layer_range: [0, 4]}]"])
@pytest.mark.parametrize("method", ["linear", "karcher"])
def test_a_base_that_is_no_source_has_no_part_where_none_is_needed(
    family: Path, tmp_path: Path, method: str, second: str
) -> None:
    text = recipe(family, IDLE.replace("METHOD", method).replace("SECOND", second))
    if method == "linear":
        text = text.replace("parameters: {}", "parameters: {weight: 1}")
    mdm_kit.merge(text, tmp_path / "with")
    line = next(line for line in text.splitlines() if line.startswith("base_model"))
    mdm_kit.merge(text.replace(line, ""), tmp_path / "without")
    got, want = read_model(tmp_path / "with"), read_model(tmp_path / "without")
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in want.items())


@pytest.mark.parametrize(
    "sizes", [Sizes(4, 16, 12, 16), Sizes(4, 8, 12, 24)], ids=["wide", "words"]
)
def test_slices_of_models_of_other_sizes_are_refused(
    family: Path, tmp_path: Path, sizes: Sizes
) -> None:
    write_model(
        tmp_path / "other", llama(sizes, torch.bfloat16), config=config(sizes, torch.bfloat16)
    )
    text = recipe(family, STACKED).replace(str(family / "m1"), str(tmp_path / "other"), 1)
    last = f"  - sources: [{{model: {tmp_path}/other, layer_range: [0, 1]}}]\n"
    with mdm_kit.plan(text.rstrip() + "\n" + last) as plan:
        assert plan.exit_code == 3
        assert "another shape than in m2, whose config" in plan.report()


def test_the_one_module_of_a_model_may_be_called_default(family: Path, tmp_path: Path) -> None:
    plain = mdm_kit.merge(recipe(family, STACKED), tmp_path / "plain")
    lines = ["  " + line for line in STACKED.strip().splitlines()[1:]]
    text = "\n".join(
        ["merge_method: passthrough", "modules:", "  default:", *map("  {}".format, lines)]
    )
    assert mdm_kit.merge(recipe(family, text), tmp_path / "named").shards == plain.shards


def test_the_base_of_a_slice_does_not_leave_it(family: Path, tmp_path: Path) -> None:
    text = SUMMED.replace(
        "  - sources:\n      - {model: BASE, layer_range: [2, 4]}",
        "  - base_model: M1\n    sources:\n      - {model: M1, layer_range: [2, 4]}",
    )
    mdm_kit.merge(recipe(family, text), tmp_path / "out")
    with pytest.raises(UsageError, match="is the base of a slice"):
        mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", ["m1"])
    mdm_kit.merge(recipe(family, SLERPED.replace("BASE", "M2")), tmp_path / "arc")
    with pytest.raises(UsageError, match="needs all models of a slice|nothing would be left"):
        mdm_kit.unmerge(tmp_path / "arc", tmp_path / "less", ["m2"])


def test_folders_of_one_model_are_named_alike(family: Path, tmp_path: Path) -> None:
    shutil.copytree(family / "m1", tmp_path / "again")
    text = recipe(family, STACKED).rstrip()
    text += f"\n  - sources: [{{model: {tmp_path}/again, layer_range: [0, 1]}}]\n"
    with pytest.raises(RecipeError, match="are folders of the same model"):
        mdm_kit.plan(text)
