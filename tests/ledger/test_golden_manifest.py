"""Merges made by earlier versions stay readable, and can still be taken apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import mdm_kit

GOLDEN = Path(__file__).with_name("golden")
VERSIONS = sorted(p.name for p in GOLDEN.iterdir())
MERGES = {
    "merged": ["merge"],
    "without-m2": ["merge", "unmerge"],
    "less-m2": ["merge", "unmerge"],
}


@pytest.fixture(params=VERSIONS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / request.param, tmp_path / "golden")
    return tmp_path / "golden"


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", MERGES)
def test_it_is_read_and_sound(golden: Path, name: str) -> None:
    found = mdm_kit.verify(golden / name)
    assert found.faults == ()
    assert [e.operation for e in found.manifest.history] == MERGES[name]
    raw = (golden / name / "mdm_manifest.json").read_bytes()
    assert mdm_kit.Manifest.from_bytes(raw).to_bytes() == raw


@pytest.mark.parametrize("name", ["merged", "less-m2"])
def test_it_can_be_taken_apart(golden: Path, tmp_path: Path, name: str) -> None:
    base = {"base": str(golden / "base")}
    mdm_kit.unmerge(golden / name, tmp_path / "out", ["m2"], sources=base)
    assert weights(tmp_path / "out") == weights(golden / "without-m2")
    assert mdm_kit.verify(tmp_path / "out", deep=True, sources=base).sound


def test_it_is_what_its_models_give(golden: Path, tmp_path: Path) -> None:
    places = {"base": str(golden / "base")}
    for name in ("m1", "m2", "m3"):
        mdm_kit.extract(golden / "merged", name, tmp_path / name, sources=places)
    for name in MERGES:
        removed = {"m2": str(tmp_path / "m2")} if name == "less-m2" else {}
        found = mdm_kit.verify(golden / name, deep=True, sources=places | removed)
        assert found.faults == ()


def test_it_can_be_extended(golden: Path, tmp_path: Path) -> None:
    base = {"base": str(golden / "base")}
    mdm_kit.extract(golden / "merged", "m2", tmp_path / "m2", sources=base)
    new = [mdm_kit.Addition(str(tmp_path / "m2"), weight=0.5)]
    mdm_kit.add(golden / "without-m2", tmp_path / "out", new, sources=base)
    mdm_kit.unmerge(tmp_path / "out", tmp_path / "back", ["m2"])
    assert weights(tmp_path / "back") == weights(golden / "without-m2")
