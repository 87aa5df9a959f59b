"""Which dtype a tensor is written in, which arithmetic makes it, and that it is rounded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from families import ODD, read_model, tensors, write_model
from merged_families import manifest_of, recipe, related, write_models
from reference.exact import FORMATS, bits, nearest
from torch import Tensor

import mdm_kit

MIXED = {
    "a": ((70_001,), torch.bfloat16),
    "b": ((3, 5), torch.float32),
    "c": ((), torch.float16),
    "d": ((0, 4), torch.float64),
}
"""One tensor of each dtype: among them a scalar and an empty tensor."""


def turned(model: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same model in other dtypes, so that it matters whose dtype counts."""
    other = {
        torch.bfloat16: torch.float32,
        torch.float32: torch.float16,
        torch.float16: torch.bfloat16,
        torch.float64: torch.float32,
    }
    return {n: t.to(other[t.dtype]) for n, t in model.items()}


@pytest.mark.parametrize(
    ("extra", "want"),
    [
        ("", None),
        ("dtype: float16", torch.float16),
        ("out_dtype: bfloat16", torch.bfloat16),
        ("dtype: float32\nout_dtype: float16", torch.float16),
        ("dtype: float64\nout_dtype: bfloat16", torch.bfloat16),
    ],
)
@pytest.mark.parametrize("method", ["mdm_oc", "task_arithmetic", "linear"])
def test_out_dtype_goes_before_dtype_before_the_base(
    tmp_path: Path, method: str, extra: str, want: torch.dtype | None
) -> None:
    base = tensors(MIXED, 0)
    write_models(tmp_path, base, [turned(m) for m in related(base, "0.3", 3)])
    mdm_kit.merge(recipe(tmp_path, (0.5, 0.25, 0.25), "", extra, method=method), tmp_path / "out")
    got = {n: t.dtype for n, t in read_model(tmp_path / "out").items()}
    assert got == {n: want or t.dtype for n, t in base.items()}


def test_without_a_base_the_first_model_gives_the_dtypes(tmp_path: Path) -> None:
    first = tensors(MIXED, 0)
    write_model(tmp_path / "m1", first)
    write_model(tmp_path / "m2", turned(first))
    text = recipe(tmp_path, (0.5, 0.5), method="linear").replace(f"base_model: {tmp_path}/base", "")
    mdm_kit.merge(text, tmp_path / "out")
    got = {n: t.dtype for n, t in read_model(tmp_path / "out").items()}
    assert got == {n: t.dtype for n, t in first.items()}


@pytest.mark.parametrize("method", ["mdm_oc", "task_arithmetic"])
def test_a_narrow_dtype_does_not_make_the_arithmetic_narrow(tmp_path: Path, method: str) -> None:
    """Four steps of 2^-9 from 1 add up to a bfloat16 number; each alone would be lost in it."""
    base = {"w": torch.ones(4)}
    deltas = torch.eye(4) / 512 if method == "mdm_oc" else torch.full((4, 4), 1 / 512)
    write_models(tmp_path, base, [{"w": base["w"] + d} for d in deltas])
    alpha = (4.0,) * 4 if method == "mdm_oc" else (1.0,) * 4
    text = recipe(tmp_path, alpha, "", "dtype: bfloat16", method=method)
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")["w"]
    assert got.dtype == torch.bfloat16
    assert got.tolist() == [1 + 1 / 128] * 4
    assert manifest_of(tmp_path / "out").precision.compute == ["float32"]


def test_dtype_float64_makes_the_arithmetic_wide(tmp_path: Path) -> None:
    """1 + 2^-24 + 2^-24: float32 loses both small numbers, one after the other."""
    models = [{"w": torch.tensor([v])} for v in (1.0, 2.0**-24, 2.0**-24)]
    write_models(tmp_path, {"w": torch.zeros(1)}, models)
    text = recipe(tmp_path, (1.0, 1.0, 1.0), method="task_arithmetic")
    mdm_kit.merge(text, tmp_path / "narrow")
    mdm_kit.merge(text + "dtype: float64\nout_dtype: float32\n", tmp_path / "wide")
    assert manifest_of(tmp_path / "narrow").precision.compute == ["float32"]
    assert manifest_of(tmp_path / "wide").precision.compute == ["float64"]
    assert read_model(tmp_path / "narrow")["w"].item() == 1.0
    assert read_model(tmp_path / "wide")["w"].item() == 1 + 2.0**-23


def beside_middles(dtype: torch.dtype) -> np.ndarray:
    """Middles of neighbours, and a hair beside them; tiny numbers; any numbers."""
    precision, lowest = FORMATS[dtype]
    k = np.arange(1, 300, dtype=np.float64)
    middles = 1 + (k + 0.5) * 2.0 ** (1 - precision)
    tiny = (k + 0.5) * 2.0 ** (lowest - precision)
    hair = [1 - 2.0**-50, 1, 1 + 2.0**-50]
    x = np.concatenate([v * h for v in (middles, tiny) for h in hair])
    return np.concatenate([x, -x, np.random.default_rng(0).standard_normal(70_001)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_float64_result_is_rounded_once_ties_to_even(tmp_path: Path, dtype: torch.dtype) -> None:
    x = beside_middles(dtype)
    write_models(tmp_path, {"w": torch.zeros(len(x), dtype=torch.float64)}, [])
    write_model(tmp_path / "m1", {"w": torch.from_numpy(x)})
    name = str(dtype).removeprefix("torch.")
    for method in ("mdm_oc", "task_arithmetic", "linear"):
        text = recipe(tmp_path, (1.0,), "", f"out_dtype: {name}", method=method)
        mdm_kit.merge(text, tmp_path / method)
        got = read_model(tmp_path / method)["w"]
        assert torch.equal(got, nearest(x, dtype)), method
    assert dtype is torch.float32 or not torch.equal(
        torch.from_numpy(x).float().to(dtype), nearest(x, dtype)
    ), "rounding by way of float32 should show here"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_float32_result_is_rounded_once_ties_to_even(tmp_path: Path, dtype: torch.dtype) -> None:
    x = torch.from_numpy(beside_middles(dtype)).float()
    write_models(tmp_path, {"w": torch.zeros(len(x))}, [{"w": x}])
    name = str(dtype).removeprefix("torch.")
    text = recipe(tmp_path, (1.0,), "", f"out_dtype: {name}", method="task_arithmetic")
    mdm_kit.merge(text, tmp_path / "out")
    assert manifest_of(tmp_path / "out").precision.compute == ["float32"]
    assert torch.equal(read_model(tmp_path / "out")["w"], nearest(x.double().numpy(), dtype))


@pytest.mark.parametrize("method", ["mdm_oc", "linear"])
@pytest.mark.parametrize("buffer", ["model.position_ids", "model.mask"])
def test_integers_and_booleans_are_copied_only_where_all_agree(
    tmp_path: Path, method: str, buffer: str
) -> None:
    base = tensors(ODD, 0)
    models = related(base, "0.3", 2)
    write_models(tmp_path, base, models)
    text = recipe(tmp_path, (0.5, 0.5), "", "out_dtype: bfloat16", method=method)
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")[buffer]
    assert bits(got) == bits(base[buffer])
    assert got.dtype == base[buffer].dtype
    other = {**models[1], buffer: models[1][buffer].clone()}
    other[buffer].view(torch.uint8).flatten()[-1] ^= 1
    write_model(tmp_path / "m3", other)
    text = text.replace(f"{tmp_path}/m2", f"{tmp_path}/m3")
    with pytest.raises(mdm_kit.errors.MisfitError, match=buffer) as caught:
        mdm_kit.merge(text, tmp_path / "never")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "never").exists()
