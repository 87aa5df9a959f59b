"""The same recipe file through mergekit and through mdm_kit: parameters and dtypes reach alike."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from families import read_model
from llamas import Sizes, write_llamas
from mergekit_recipes import RECIPES
from mergekit_runs import run_mergekit

import mdm_kit

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not importlib.util.find_spec("mergekit"), reason="mergekit is not installed"
    ),
]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("llamas")
    for dtype in (torch.float32, torch.bfloat16):
        write_llamas(root / str(dtype).removeprefix("torch."), Sizes(4, 16, 24, 32), dtype)
    return root


DTYPES = {
    "as stored": "",
    "dtype float32": "dtype: float32",
    "out bfloat16": "dtype: float32\nout_dtype: bfloat16",
    "torch. prefix": "dtype: torch.float16",
}


def both(family: Path, tmp_path: Path, text: str, stored: str) -> tuple[Path, Path]:
    for name, folder in (("M1", "m1"), ("M2", "m2"), ("BASE", "base")):
        text = text.replace(name, f"{family}/{stored}/{folder}")
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(text)
    run_mergekit(recipe, tmp_path / "theirs")
    mdm_kit.merge(recipe, tmp_path / "ours")
    return tmp_path / "ours", tmp_path / "theirs"


def compare(ours: Path, theirs: Path, borderline: int = 0) -> None:
    """Compare all but the `borderline` most different elements of each tensor."""
    got, want = read_model(ours), read_model(theirs)
    assert set(got) == set(want)
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype, name
        apart = (got[name].double() - tensor.double()).abs().flatten().sort().values
        error = torch.linalg.vector_norm(apart[: len(apart) - borderline])
        size = torch.linalg.vector_norm(tensor.double())
        step = torch.finfo(tensor.dtype).eps if tensor.dtype != torch.float32 else 2e-6
        assert error <= step * size, (name, float(error / size))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_parameters_reach_every_tensor_as_in_mergekit(
    family: Path, tmp_path: Path, recipe: str
) -> None:
    # mergekit's float32 importances fall on either side of a threshold, as its machine rounds.
    borderline = 1 if "arcee_fusion" in recipe else 0
    compare(*both(family, tmp_path, recipe, "float32"), borderline)


@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("recipe", ["linear", "task arithmetic"])
def test_output_dtypes_are_those_of_mergekit(
    family: Path, tmp_path: Path, recipe: str, dtypes: str
) -> None:
    ours, theirs = both(family, tmp_path, f"{RECIPES[recipe]}\n{dtypes}\n", "bfloat16")
    compare(ours, theirs)
    config = json.loads((ours / "config.json").read_text())
    (dtype,) = {str(t.dtype).removeprefix("torch.") for t in read_model(ours).values()}
    assert config["torch_dtype"] == dtype
