"""Whole merges of odd families against dense float64 formulas."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import ODD, read_model, write_family, write_model
from reference import dense

import mdm_kit

SHARES = (0.3, 0.9, -0.4)


def recipe(root: Path, method: str, body: str = "", shares: tuple[float, ...] = SHARES) -> str:
    models = "\n".join(
        f"  - {{model: {root}/m{i}, parameters: {{weight: {w}}}}}"
        for i, w in enumerate(shares, start=1)
    )
    return f"merge_method: {method}\nmodels:\n{models}\n{body}\n"


@pytest.mark.parametrize("out_dtype", ["", "bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize("n_shards", [1, 3])
def test_task_arithmetic_equals_the_formula(tmp_path: Path, out_dtype: str, n_shards: int) -> None:
    models = write_family(tmp_path, n=3, n_shards=n_shards)
    body = f"base_model: {tmp_path}/base\nparameters: {{lambda: 0.7}}\n"
    body += f"out_dtype: {out_dtype}" if out_dtype else ""
    mdm_kit.merge(recipe(tmp_path, "task_arithmetic", body), tmp_path / "out")
    got = read_model(tmp_path / "out")
    assert set(got) == set(ODD)
    for name, base in models["base"].items():
        weights = [models[f"m{i}"][name] for i in (1, 2, 3)]
        if not base.dtype.is_floating_point:
            assert torch.equal(got[name], base)
            continue
        assert got[name].dtype == (getattr(torch, out_dtype) if out_dtype else base.dtype)
        want = dense.task_arithmetic(base, weights, SHARES, lam=0.7)
        spread = base.double().abs() + sum(
            abs(s) * (w.double() - base.double()).abs()
            for s, w in zip(SHARES, weights, strict=True)
        )
        dense.assert_accurate(got[name], want, want - base.double(), spread)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("out_dtype", ["bfloat16", "float32", "float64"])
def test_linear_equals_the_formula(tmp_path: Path, out_dtype: str, normalize: bool) -> None:
    models = write_family(tmp_path, n=3)
    body = f"parameters: {{normalize: {str(normalize).lower()}}}\nout_dtype: {out_dtype}"
    mdm_kit.merge(recipe(tmp_path, "linear", body), tmp_path / "out")
    got = read_model(tmp_path / "out")
    for name, first in models["m1"].items():
        if not first.dtype.is_floating_point:
            assert torch.equal(got[name], first)
            continue
        weights = [models[f"m{i}"][name] for i in (1, 2, 3)]
        want = dense.linear(weights, SHARES, normalize=normalize)
        total = sum(SHARES) if normalize else 1.0
        spread = sum(
            abs(s / total) * w.double().abs() for s, w in zip(SHARES, weights, strict=True)
        )
        dense.assert_accurate(got[name], want, want - first.double(), spread)


def test_passthrough_keeps_every_bit(tmp_path: Path) -> None:
    models = write_family(tmp_path, n=1)
    text = f"merge_method: passthrough\nmodels: [{{model: {tmp_path}/m1}}]\n"
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")
    for name, want in models["m1"].items():
        assert got[name].dtype == want.dtype
        assert (
            got[name].numpy(force=True).tobytes() == want.numpy(force=True).tobytes()
            if (want.dtype is not torch.bfloat16)
            else torch.equal(got[name].view(torch.int16), want.view(torch.int16))
        )


def test_passthrough_scales_by_filter(tmp_path: Path) -> None:
    models = write_family(tmp_path, n=1)
    text = (
        f"merge_method: passthrough\nmodels:\n  - model: {tmp_path}/m1\n"
        "    parameters: {scale: [{filter: norm, value: 2.0}]}\n"
    )
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")
    for name, source in models["m1"].items():
        factor = 2.0 if "norm" in name else 1
        assert torch.equal(got[name], source * factor if factor != 1 else source)


def test_layer_gradients_and_filters_reach_the_right_tensors(tmp_path: Path) -> None:
    models = write_family(tmp_path, n=1)
    text = f"""
merge_method: task_arithmetic
base_model: {tmp_path}/base
models:
  - model: {tmp_path}/m1
    parameters:
      weight:
        - {{filter: mlp, value: [0.0, 1.0]}}
        - {{filter: embed, value: 0.25}}
        - {{value: [0.0, 0.5, 2.0]}}
out_dtype: float64
"""
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")
    expected = {
        "model.embed_tokens.weight": 0.25,
        "model.layers.0.mlp.up.weight": 0.0,
        "model.layers.1.mlp.up.weight": 0.5,
        "model.layers.2.mlp.up.weight": 1.0,
        "model.layers.0.norm.weight": 0.0,
        "model.layers.1.norm.weight": 0.5,
        "model.layers.2.norm.weight": 2.0,
        "model.wide": 0.0,  # outside layers: the first value
    }
    for name, weight in expected.items():
        base, source = models["base"][name], models["m1"][name]
        want = dense.task_arithmetic(base, [source], [weight])
        assert torch.allclose(got[name], want, rtol=1e-12, atol=1e-12), name


def test_tiles_do_not_show_in_the_result(tmp_path: Path) -> None:
    spec = {
        "w": ((700, 1501), torch.float32),
        "v": ((3,), torch.float32),
    }  # several tiles and a rest
    models = write_family(tmp_path, spec, n=2)
    mdm_kit.merge(recipe(tmp_path, "linear", shares=(0.25, 0.75)), tmp_path / "out", threads=3)
    got = read_model(tmp_path / "out")
    for name in spec:
        want = dense.linear([models["m1"][name], models["m2"][name]], (0.25, 0.75), normalize=True)
        assert torch.equal(got[name], want.float())


def test_output_shards_follow_the_limit_and_load_with_transformers_names(tmp_path: Path) -> None:
    models = write_family(tmp_path, n=2)
    merged = mdm_kit.merge(
        recipe(tmp_path, "linear", shares=(1.0, 1.0)), tmp_path / "out", shard_nbytes=1000
    )
    assert len(merged.shards) > 3
    assert list(merged.shards) == [
        f"model-{i:05d}-of-{len(merged.shards):05d}.safetensors"
        for i in range(1, len(merged.shards) + 1)
    ]
    assert set(read_model(tmp_path / "out")) == set(models["m1"])


def test_integer_buffers_that_differ_stop_the_merge_and_leave_nothing(tmp_path: Path) -> None:
    models = write_family(tmp_path, n=1)
    other = dict(models["m1"])
    other["model.position_ids"] = other["model.position_ids"] + 1
    write_model(tmp_path / "m2", other)
    with pytest.raises(mdm_kit.errors.MisfitError, match=r"position_ids.*I64.*m1.*m2"):
        mdm_kit.merge(recipe(tmp_path, "linear", shares=(1.0, 1.0)), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "m1", "m2"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_names_tensor_and_parents(tmp_path: Path, bad: float) -> None:
    models = write_family(tmp_path, n=1)
    other = {n: t.clone() for n, t in models["m1"].items()}
    other["model.wide"][0, 1000] = bad
    write_model(tmp_path / "m2", other)
    with pytest.raises(mdm_kit.errors.NotFiniteError, match=r"model\.wide: element 1000.*m1, m2"):
        mdm_kit.merge(recipe(tmp_path, "linear", shares=(1.0, 1.0)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_overflow_of_the_output_dtype_is_not_finite(tmp_path: Path) -> None:
    write_model(tmp_path / "m1", {"w": torch.full((4,), 60000.0)})
    text = recipe(tmp_path, "linear", "parameters: {normalize: false}\nout_dtype: float16", (2.0,))
    with pytest.raises(mdm_kit.errors.NotFiniteError, match="finite float16"):
        mdm_kit.merge(text, tmp_path / "out")


def test_five_thousand_tensors(tmp_path: Path) -> None:
    spec = {
        f"model.layers.{i // 10}.w{i % 10}.weight": ((4, 3), torch.float32) for i in range(5000)
    }
    models = write_family(tmp_path, spec, n=2)
    mdm_kit.merge(recipe(tmp_path, "linear", shares=(0.5, 0.5)), tmp_path / "out")
    got = read_model(tmp_path / "out")
    assert len(got) == 5000
    for name in list(spec)[::499]:
        want = dense.linear([models["m1"][name], models["m2"][name]], (0.5, 0.5), normalize=True)
        assert torch.equal(got[name], want.float())
