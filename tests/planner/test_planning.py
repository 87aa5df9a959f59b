"""Plans from headers alone: findings, costs, dtypes, digests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import ODD, tensors, write_family, write_model

import mdm_kit
from mdm_kit.planner.nodes import Delta, Fold, Same
from mdm_kit.planner.plan import Plan
from mdm_kit.words import Kind, Level


def two(root: Path, method: str = "linear", extra: str = "") -> str:
    return (
        f"merge_method: {method}\nmodels:\n"
        f"  - {{model: {root}/m1, parameters: {{weight: 0.5}}}}\n"
        f"  - {{model: {root}/m2, parameters: {{weight: 0.5}}}}\n{extra}\n"
    )


def errors(plan: Plan) -> list[str]:
    return [f.message for f in plan.findings if f.level is Level.ERROR]


def test_reads_no_weight(tmp_path: Path) -> None:
    """Every byte behind the headers is missing: a plan that touched one would fail."""
    write_family(tmp_path, n=2)
    with mdm_kit.plan(two(tmp_path)) as plan:
        assert plan.n_tensors == len(ODD)
        for source in plan.sources:
            info = next(iter(source.checkpoint.tensors.values()))
            file = tmp_path / source.name / info.file
            data = bytearray(file.read_bytes())
            start = source.checkpoint.files[0].header_nbytes
            data[start:] = b"\xff" * (len(data) - start)  # NaN everywhere
            file.write_bytes(data)
    with mdm_kit.plan(two(tmp_path)) as again:
        assert again.digest == plan.digest


def test_costs_are_the_bytes_of_the_headers(tmp_path: Path) -> None:
    write_family(tmp_path, n=2)
    with mdm_kit.plan(two(tmp_path, "task_arithmetic", f"base_model: {tmp_path}/base")) as plan:
        per_model = sum(t.nbytes for t in plan.sources[0].checkpoint.tensors.values())
        assert plan.costs.read_nbytes == 3 * per_model
        assert plan.costs.download_nbytes == 0
        assert plan.costs.write_nbytes == sum(s.nbytes for s in plan.shards)
        assert (plan.costs.passes, plan.costs.barriers) == (1, 0)


def test_nodes_of_a_delta_method(tmp_path: Path) -> None:
    write_family(tmp_path, n=2)
    with mdm_kit.plan(two(tmp_path, "task_arithmetic", f"base_model: {tmp_path}/base")) as plan:
        by_name = {p.write.name: p.write.root for s in plan.shards for p in s.tensors}
    fold = by_name["model.scale"]
    assert isinstance(fold, Fold)
    assert fold.base.info.source == "base"
    deltas = [i for i in fold.delta.inputs if isinstance(i, Delta)]
    assert [d.source.info.source for d in deltas] == ["m1", "m2"]
    same = by_name["model.position_ids"]
    assert isinstance(same, Same)
    assert [r.info.source for r in same.inputs] == ["base", "m1", "m2"]


@pytest.mark.parametrize(
    ("extra", "embed", "norm", "compute"),
    [
        ("", "BF16", "F32", "float32"),
        ("dtype: float16", "F16", "F16", "float32"),
        ("dtype: float16\nout_dtype: bfloat16", "BF16", "BF16", "float32"),
        ("dtype: float64\nout_dtype: bfloat16", "BF16", "BF16", "float64"),
        ("out_dtype: float64", "F64", "F64", "float64"),
    ],
)
def test_output_and_arithmetic_dtypes(
    tmp_path: Path, extra: str, embed: str, norm: str, compute: str
) -> None:
    write_family(tmp_path, n=2)
    text = two(tmp_path, "task_arithmetic", f"base_model: {tmp_path}/base\n{extra}")
    with mdm_kit.plan(text) as plan:
        by_name = {p.write.name: p.write for s in plan.shards for p in s.tensors}
    assert by_name["model.embed_tokens.weight"].dtype == embed
    assert by_name["model.layers.0.norm.weight"].dtype == norm
    assert by_name["model.position_ids"].dtype == "I64"
    apply = by_name["model.layers.0.norm.weight"].apply()
    assert apply is not None
    assert apply.compute == compute


def test_every_misfit_is_said_with_numbers(tmp_path: Path) -> None:
    models = write_family(tmp_path, n=1)
    other = dict(models["m1"])
    del other["model.scale"]
    other["model.extra"] = torch.zeros(2)
    other["model.cube"] = torch.zeros(3, 5, 8)
    other["model.embed_tokens.weight"] = torch.zeros(40, 8)
    other["model.mask"] = torch.zeros(4, 4)
    write_model(tmp_path / "m2", other)
    with mdm_kit.plan(two(tmp_path)) as plan:
        said = "\n".join(errors(plan))
    assert "m2 lacks 1 of the 16 tensors of m1: model.scale" in said
    assert "m2 has 1 tensor that m1 lacks: model.extra" in said
    assert "model.cube [3, 5, 7] against [3, 5, 8]" in said
    assert "model.embed_tokens.weight [37, 8] against [40, 8]" in said
    assert "model.mask BOOL against F32" in said
    assert plan.exit_code == 3
    with pytest.raises(mdm_kit.errors.FindingsError) as raised:
        plan.check()
    assert raised.value.exit_code == 3


def test_vocabularies_transposed_and_untied_models_get_their_hint(tmp_path: Path) -> None:
    base = {"model.embed_tokens.weight": torch.zeros(8, 4), "h.0.w": torch.zeros(4, 6)}
    write_model(tmp_path / "m1", base)
    cases = {
        "vocabularies": {**base, "model.embed_tokens.weight": torch.zeros(9, 4)},
        "transposed": {**base, "h.0.w": torch.zeros(6, 4)},
        "untie": {**base, "lm_head.weight": torch.zeros(8, 4)},
    }
    for word, other in cases.items():
        write_model(tmp_path / word, other)
        with mdm_kit.plan(two(tmp_path).replace("/m2", f"/{word}")) as plan:
            hints = [f.hint for f in plan.findings if f.level is Level.ERROR]
        assert any(word in hint for hint in hints), (word, hints)


def test_a_quantised_model_is_refused_by_its_config(tmp_path: Path) -> None:
    write_family(tmp_path, n=1)
    config = {"quantization_config": {"quant_method": "gptq"}}
    write_model(tmp_path / "m2", tensors(ODD, 0), config=config)
    with mdm_kit.plan(two(tmp_path)) as plan:
        assert any("m2 is quantised (gptq" in e for e in errors(plan))


def test_missing_models_are_all_named(tmp_path: Path) -> None:
    text = two(tmp_path, "task_arithmetic", f"base_model: {tmp_path}/base")
    with mdm_kit.plan(text) as plan:
        assert len(errors(plan)) == 3
        assert {f.kind for f in plan.findings} == {Kind.SOURCE}
        assert plan.exit_code == 5
        assert [f.place.line for f in plan.findings if f.place] == [3, 4, 5]


def test_the_base_among_the_models_takes_no_part(tmp_path: Path) -> None:
    write_family(tmp_path, n=1)
    text = (
        f"merge_method: task_arithmetic\nbase_model: {tmp_path}/base\nmodels:\n"
        f"  - model: {tmp_path}/base\n"
        f"  - {{model: {tmp_path}/m1, parameters: {{weight: 0.5}}}}\n"
    )
    with mdm_kit.plan(text) as plan:
        assert not errors(plan)
        assert [(s.name, s.role) for s in plan.sources] == [("base", "base"), ("m1", "model")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("merge_method: linear\nmodels: [{model: M1}, {model: M2}]\n", "'weight'"),
        ("merge_method: passthrough\nmodels: [{model: M1}, {model: M2}]\n", "takes 1 model"),
        (
            "merge_method: task_arithmetic\nmodels: [{model: M1, parameters: {weight: 1}}]\n",
            "needs a base_model",
        ),
        (
            "merge_method: linear\n"
            "models: [{model: M1, parameters: {weight: 1, normalize: true}}]\n",
            "parameter of the whole merge",
        ),
        (
            "merge_method: linear\nmodels: [{model: M1, parameters: {weight: [0.0, 1.0]}}]\n",
            "sum to zero",
        ),
        (
            "merge_method: linear\nmodels:\n  - model: M1\n"
            "    parameters: {weight: [{filter: norm, value: 1}]}\n",
            "has no value for m1 for ",
        ),
        (
            "merge_method: task_arithmetic\nbase_model: M2\n"
            "models: [{model: M1, parameters: {weight: 1, density: 1.5}}]\n",
            "from 0 up to 1",
        ),
    ],
)
def test_parameters_that_cannot_be_merged_with(tmp_path: Path, text: str, said: str) -> None:
    write_family(tmp_path, n=2)
    text = text.replace("M1", f"{tmp_path}/m1").replace("M2", f"{tmp_path}/m2")
    try:
        with mdm_kit.plan(text) as plan:
            report = "\n".join(errors(plan))
            assert plan.exit_code == 2
    except mdm_kit.errors.RecipeError as error:
        report = str(error)
    assert said in report


def test_inert_parameters_are_accepted_with_a_note(tmp_path: Path) -> None:
    write_family(tmp_path, n=2)
    extra = f"base_model: {tmp_path}/base\nparameters: {{int8_mask: true, density: 0.5}}"
    with mdm_kit.plan(two(tmp_path, "task_arithmetic", extra)) as plan:
        notes = [f.message for f in plan.findings if f.level is Level.NOTE]
    assert len([n for n in notes if "changes nothing" in n]) == 2


def test_the_digest_follows_what_decides_the_bytes(tmp_path: Path) -> None:
    write_family(tmp_path / "a", n=2)
    write_family(tmp_path / "b", n=2)
    text = two(tmp_path / "a")
    same = [text, text + "# a comment\n", two(tmp_path / "b")]
    other = [text + "dtype: float32", text + "seed: 1", text.replace("0.5", "0.25")]
    digests = []
    for t in [*same, *other]:
        with mdm_kit.plan(t) as plan:
            digests.append(plan.digest)
    assert len(set(digests[:3])) == 1
    assert len(set(digests)) == 4


def test_a_filter_that_fits_no_tensor_is_warned_about(tmp_path: Path) -> None:
    write_family(tmp_path, n=2)
    text = two(tmp_path).replace(
        "weight: 0.5", "weight: [{filter: self_atn, value: 1}, {value: 2}]", 1
    )
    with mdm_kit.plan(text) as plan:
        warnings = [f for f in plan.findings if f.level is Level.WARNING]
    assert any("'self_atn'" in f.message and f.place and f.place.line == 3 for f in warnings)


def test_recipe_and_models_are_judged_in_one_report(tmp_path: Path) -> None:
    write_family(tmp_path, n=1)
    text = two(tmp_path).replace("weight: 0.5", "wieght: 0.5", 1)
    with pytest.raises(mdm_kit.errors.RecipeError) as raised:
        mdm_kit.plan(text)
    assert "did you mean 'weight'" in str(raised.value)
    assert "m2" in str(raised.value)


def test_int8_mask_is_accepted_by_every_method(tmp_path: Path) -> None:
    write_family(tmp_path, n=2)
    with mdm_kit.plan(two(tmp_path, extra="parameters: {int8_mask: true}")) as plan:
        assert plan.exit_code == 0
        assert any("'int8_mask' changes nothing" in f.message for f in plan.findings)
