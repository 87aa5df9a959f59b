"""Merges kept as sums by earlier versions stay readable, grow on and can be taken apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mdm_kit

GOLDEN = Path(__file__).with_name("golden")
VERSIONS = sorted(p.parent.name for p in GOLDEN.glob("*/sums"))
MERGES = ("opcm", "opcm-less", "covmerge", "covmerge-less")
MODES = {"opcm": "rebuild", "covmerge": "exact"}


@pytest.fixture(params=VERSIONS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / request.param / "sums", tmp_path / "golden")
    return tmp_path / "golden"


def assert_one_step_apart(out: Path, wanted: Path) -> None:
    """Compare weights: another kind of machine may round the last bit otherwise."""
    found, want = (load_file(folder / "model.safetensors") for folder in (out, wanted))
    assert found.keys() == want.keys()
    for name, tensor in want.items():
        assert tensor.dtype == torch.bfloat16
        assert torch.allclose(found[name].double(), tensor.double(), rtol=2**-7, atol=1e-6)


def places(golden: Path, names: tuple[str, ...]) -> dict[str, str]:
    return {name: str(golden / name) for name in names}


@pytest.mark.parametrize("name", MERGES)
def test_it_is_read_and_sound(golden: Path, name: str) -> None:
    found = mdm_kit.verify(golden / name)
    assert found.faults == ()
    events = ["merge", "add", "unmerge"][: 3 if name.endswith("-less") else 2]
    assert [e.operation for e in found.manifest.history] == events
    raw = (golden / name / "mdm_manifest.json").read_bytes()
    assert mdm_kit.Manifest.from_bytes(raw).to_bytes() == raw


@pytest.mark.parametrize("method", MODES)
def test_its_last_model_is_taken_out(golden: Path, tmp_path: Path, method: str) -> None:
    """Opcm reads the base alone, covmerge the leaving model too."""
    read = places(golden, ("base",) if method == "opcm" else ("base", "m3"))
    mode = MODES[method]
    mdm_kit.unmerge(golden / method, tmp_path / "out", ["m3"], mode=mode, sources=read)  # type: ignore[arg-type]
    assert_one_step_apart(tmp_path / "out", golden / f"{method}-less")
    assert mdm_kit.verify(tmp_path / "out").faults == ()


@pytest.mark.parametrize("method", MODES)
def test_it_grows_on(golden: Path, tmp_path: Path, method: str) -> None:
    new = [mdm_kit.Addition(str(golden / "m3"))]
    base = places(golden, ("base",))
    mdm_kit.add(golden / f"{method}-less", tmp_path / "out", new, sources=base)
    assert_one_step_apart(tmp_path / "out", golden / method)
    assert mdm_kit.verify(tmp_path / "out").faults == ()


@pytest.mark.parametrize("method", MODES)
def test_it_is_what_its_models_give(golden: Path, tmp_path: Path, method: str) -> None:
    read = places(golden, ("base", "m1", "m3"))
    mdm_kit.unmerge(golden / method, tmp_path / "anew", ["m2"], sources=read)
    new = [mdm_kit.Addition(str(golden / "m2"))]
    mdm_kit.add(tmp_path / "anew", tmp_path / "whole", new)
    last = ["m1"] if method == "opcm" else ["m3"]
    mdm_kit.unmerge(tmp_path / "whole", tmp_path / "less", last)
    assert mdm_kit.verify(tmp_path / "less", deep=True).faults == ()
    if method == "covmerge":  # whatever the order
        assert_one_step_apart(tmp_path / "whole", golden / method)
