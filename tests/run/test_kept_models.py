"""Models kept in a merge: when all else is gone, everything still works, to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from families import Spec, tensors, write_model
from merged_families import manifest_of, promised, recipe, related

import mdm_kit
from mdm_kit.errors import (
    IntegrityError,
    OutputExists,
    RecipeError,
    SourceError,
    UsageError,
)

SPEC: Spec = {
    "model.embed_tokens.weight": ((333, 8), torch.bfloat16),
    "model.layers.0.w": ((70, 31), torch.bfloat16),
    "model.layers.0.norm": ((401,), torch.float32),
    "model.layers.1.w": ((40, 41), torch.float16),
    "model.layers.1.scale": ((), torch.float64),
    "model.empty": ((0, 5), torch.float32),
    "model.ids": ((5,), torch.int64),
}
ALPHA = {"m1": 1.0, "m2": 0.7, "m3": -0.4, "m4": 0.5}
SIDES = {"tokenizer.json": '{"model": {}}', "chat_template.jinja": "{{ messages }}\n"}
KEEPS = ("deltas", "deltas+base")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tensors(SPEC, 0)
    for name, model in zip(("base", *ALPHA), (base, *related(base, "0.3", 4)), strict=True):
        write_model(tmp_path / name, model, n_shards=3 if name == "m2" else 1)
        for side, content in SIDES.items():
            (tmp_path / name / side).write_text(content + name)
    return tmp_path


def text(root: Path, names: Sequence[str], keep: str = "deltas+base") -> str:
    extra = f"ledger: {{keep: {keep}}}"
    return recipe(root, [ALPHA[n] for n in names], "scope: layer", extra, names=names)


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def hide(root: Path, *names: str) -> None:
    (root / "hidden").mkdir(exist_ok=True)
    for name in names:
        (root / name).rename(root / "hidden" / name)


@pytest.mark.parametrize("keep", KEEPS)
def test_everything_still_works_when_the_sources_are_gone(root: Path, keep: str) -> None:
    names = ["m1", "m2", "m3"]
    mdm_kit.merge(text(root, names, keep), root / "all")
    mdm_kit.merge(text(root, ["m1", "m3"], keep), root / "never")
    mdm_kit.merge(text(root, ["m1", "m3", "m4"], keep), root / "more")
    wanted = {}
    for mode in ("exact", "subtract"):
        mdm_kit.unmerge(root / "all", root / f"near-{mode}", ["m2"], mode=mode)
        wanted[mode] = promised(root / f"near-{mode}")
    hide(root, *names, *(["base"] if keep == "deltas+base" else []))
    mdm_kit.unmerge(root / "all", root / "out", ["m2"])
    assert promised(root / "out") == promised(root / "never")
    assert sorted(p.name for p in (root / "out" / "deltas").iterdir()) == [
        *(["001.safetensors", "002.safetensors"]),
        *(["base.safetensors"] if keep == "deltas+base" else []),
    ]
    for mode in ("exact", "subtract"):
        mdm_kit.unmerge(root / "all", root / f"far-{mode}", ["m2"], mode=mode)
        assert promised(root / f"far-{mode}") == wanted[mode]
        mdm_kit.unmerge(root / f"far-{mode}", root / f"clean-{mode}", ["m2"])
        assert promised(root / f"clean-{mode}") == promised(root / "never")
    mdm_kit.add(root / "out", root / "longer", [mdm_kit.Addition(str(root / "m4"), weight=0.5)])
    assert promised(root / "longer") == promised(root / "more")
    hide(root, "m4")
    mdm_kit.unmerge(root / "longer", root / "back", ["m4"])
    assert promised(root / "back") == promised(root / "never")
    assert mdm_kit.verify(root / "back", deep=True).sound


@pytest.mark.parametrize("keep", KEEPS)
def test_each_source_is_written_back_bit_for_bit(root: Path, keep: str) -> None:
    names = ["m1", "m2"]
    mdm_kit.merge(text(root, names, keep), root / "all")
    kept = [*names, *(["base"] if keep == "deltas+base" else [])]
    hide(root, *kept)
    for name in kept:
        mdm_kit.extract(root / "all", name, root / name)
        assert files(root / name) == files(root / "hidden" / name)


def test_kept_deltas_need_their_base(root: Path) -> None:
    mdm_kit.merge(text(root, ["m1", "m2"], "deltas"), root / "all")
    hide(root, "base", "m1")
    for call in (
        lambda: mdm_kit.unmerge(root / "all", root / "out", ["m2"]),
        lambda: mdm_kit.extract(root / "all", "m1", root / "out"),
    ):
        with pytest.raises(SourceError, match="no longer where it was"):
            call()
    assert not (root / "out").exists()
    there = {"base": str(root / "hidden" / "base")}
    mdm_kit.extract(root / "all", "m1", root / "out", sources=there)
    assert files(root / "out") == files(root / "hidden" / "m1")


def test_what_cannot_be_extracted(root: Path) -> None:
    mdm_kit.merge(text(root, ["m1", "m2"], "deltas"), root / "all")
    mdm_kit.merge(text(root, ["m1", "m2"], "references"), root / "plain")
    with pytest.raises(SourceError, match="keeps only a reference to base.*it keeps m1, m2"):
        mdm_kit.extract(root / "all", "base", root / "out")
    with pytest.raises(SourceError, match="ledger: {keep: deltas}"):
        mdm_kit.extract(root / "plain", "m1", root / "out")
    with pytest.raises(UsageError, match="no model 'm3'"):
        mdm_kit.extract(root / "all", "m3", root / "out")
    with pytest.raises(OutputExists):
        mdm_kit.extract(root / "all", "m1", root / "m2")
    assert not (root / "out").exists()


def test_a_flipped_byte_of_a_kept_model_is_found(root: Path) -> None:
    mdm_kit.merge(text(root, ["m1", "m2"]), root / "all")
    hide(root, "m1")
    path = root / "all" / "deltas" / "001.safetensors"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    (fault,) = mdm_kit.verify(root / "all").faults
    assert "deltas/001.safetensors" in fault
    with pytest.raises(IntegrityError):
        mdm_kit.extract(root / "all", "m1", root / "out")
    assert not (root / "out").exists()


def test_a_method_without_a_base_keeps_nothing(root: Path) -> None:
    extra = "ledger: {keep: deltas}"
    wrong = recipe(root, (1, 1), "", extra, method="linear", names=("m1", "m2"))
    with pytest.raises(RecipeError, match="linear has none"):
        mdm_kit.merge(wrong, root / "out")


def test_the_manifest_names_what_is_kept(root: Path) -> None:
    mdm_kit.merge(text(root, ["m1", "m2"]), root / "all")
    kept = {s.name: s.kept for s in manifest_of(root / "all").sources}
    assert kept == {
        "base": "deltas/base.safetensors",
        "m1": "deltas/001.safetensors",
        "m2": "deltas/002.safetensors",
    }
    shutil.rmtree(root / "all" / "deltas")
    assert len(mdm_kit.verify(root / "all").faults) == 3
