"""A delta is model minus base in float32, in float64 for float64 numbers, and nothing narrower.

A tensor of one element shows its delta: its only inner product is the square.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import read_model, write_model
from merged_families import recipe, triangles

import mdm_kit

SMALL = 2.0**-26
"""1 - 2^-26 is 1 in float32 and another number in float64."""
BF16, F32, F64 = torch.bfloat16, torch.float32, torch.float64


def squared(root: Path, base: torch.Tensor, model: torch.Tensor, extra: str = "") -> float:
    write_model(root / "base", {"w": base})
    write_model(root / "m1", {"w": model})
    mdm_kit.merge(recipe(root, (1.0,), "", extra), root / "out")
    return triangles(root / "out")["w"][0]


@pytest.mark.parametrize(
    ("base_dtype", "model_dtype", "extra", "want"),
    [
        (F32, F32, "", 1.0),
        (F32, F32, "dtype: bfloat16", 1.0),
        (BF16, F32, "", 1.0),
        (F64, F64, "", (1 - SMALL) ** 2),
        (F64, F64, "dtype: bfloat16", (1 - SMALL) ** 2),
        (F32, F64, "", (1 - SMALL) ** 2),
        (F64, F32, "out_dtype: float16", (1 - SMALL) ** 2),
        (F32, F32, "dtype: float64", (1 - SMALL) ** 2),
    ],
)
def test_the_inputs_decide_how_fine_a_delta_is(
    tmp_path: Path, base_dtype: torch.dtype, model_dtype: torch.dtype, extra: str, want: float
) -> None:
    base = torch.tensor(SMALL, dtype=base_dtype)
    assert squared(tmp_path, base, torch.tensor(1.0, dtype=model_dtype), extra) == want


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("extra", ["", "dtype: bfloat16", "out_dtype: float16"])
def test_a_delta_of_16_bit_numbers_keeps_its_other_bits(
    tmp_path: Path, dtype: torch.dtype, extra: str
) -> None:
    """3 - 2^-11 has 13 significant bits; neither 16-bit type has room for them."""
    base, model = torch.tensor(2.0**-11, dtype=dtype), torch.tensor(3.0, dtype=dtype)
    assert squared(tmp_path, base, model, extra) == (3 - 2.0**-11) ** 2


def test_the_sum_is_made_from_deltas_with_all_their_bits(tmp_path: Path) -> None:
    """256 (3 - 2^-11) + 2^-11 is a float32 number; no 16-bit delta leads to it."""
    write_model(tmp_path / "base", {"w": torch.tensor([2.0**-11], dtype=BF16)})
    write_model(tmp_path / "m1", {"w": torch.tensor([3.0], dtype=BF16)})
    for method in ("mdm_oc", "task_arithmetic"):
        text = recipe(tmp_path, (256.0,), "", "out_dtype: float32", method=method)
        mdm_kit.merge(text, tmp_path / method)
        assert read_model(tmp_path / method)["w"].item() == 768 - 2.0**-3 + 2.0**-11
