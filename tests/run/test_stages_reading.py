"""Streamed stages whose tensors are made in several tiles: their bytes, and how often they read."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch
from bench.measured import measure
from families import fine_tuned, read_model, write_model
from staged import content, filled, one_by_one

import mdm_kit
from mdm_kit.errors import MisfitError
from mdm_kit.maths.blocks import BLOCK
from mdm_kit.planner import costs
from mdm_kit.sources import FolderSource, Loan
from mdm_kit.words import TensorInfo

SHAPE = (5 * BLOCK // 640 + 7, 640)
"""Six tiles of the least size, the last not full."""
TIGHT = 700_000
"""Bytes of memory: one tensor of bfloat16 fits, not two."""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large")
    torch.manual_seed(0)
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(2)]
    base = {name: torch.randn(SHAPE).to(torch.bfloat16) for name in names}
    base["model.norm.weight"] = torch.randn(SHAPE[1]).to(torch.bfloat16)
    write_model(root / "base", base)
    for i in (1, 2, 3):
        write_model(root / f"m{i}", fine_tuned(base, i))
    return root


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "TILE_ELEMENTS", BLOCK)


def document(method: str, one: str, two: str, settings: str, name: str = "") -> str:
    head = f"name: {name}\n" if name else ""
    base = "" if method == "linear" else f"base_model: {one if method == 'slerp' else 'BASE'}\n"
    models = f"models: [{{model: {one}}}, {{model: {two}}}]\n"
    return f"{head}merge_method: {method}\n{base}{models}parameters: {{{settings}}}\n"


FIRST = {
    "linear": "weight: 0.5",
    "ties": "weight: 0.5, density: 0.3",
    "della": "weight: 0.5, density: 0.6",
    "sce": "select_topk: 0.3",
    "slerp": "t: 0.3",
    "mdm_oc": "weight: 0.7",
}
LAST = {
    "linear": "weight: 0.5",
    "ties": "weight: 0.5, density: 0.3",
    "mdm_oc": "weight: 0.7, scope: global",
}
PAIRS = [(f, "ties") for f in FIRST] + [("ties", s) for s in LAST if s != "ties"]
MEMORIES = [None, TIGHT]
"""Each pair with one of them, in turn."""


@pytest.mark.parametrize(
    ("first", "last", "memory"), [(*pair, MEMORIES[i % 2]) for i, pair in enumerate(PAIRS)]
)
def test_the_bytes_are_those_of_one_by_one(
    family: Path, tmp_path: Path, first: str, last: str, memory: int | None
) -> None:
    one = document(first, "M1", "M2", FIRST[first], "one")
    text = filled(family, f"{one}---\n{document(last, 'one', 'M3', LAST[last])}")
    mdm_kit.merge(text, tmp_path / "out", threads=4, memory_nbytes=memory)
    wanted = one_by_one(text, tmp_path / "each", threads=1)
    assert content(tmp_path / "out") == content(wanted)


class Reading:
    """Counts the bytes that are lent of each model's tensors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nbytes: Counter[str] = Counter()
        lock, lend = threading.Lock(), FolderSource.lend

        def counting(source: FolderSource, info: TensorInfo, start: int, nbytes: int) -> Loan:
            with lock:
                self.nbytes[source.name] += nbytes
            return lend(source, info, start, nbytes)

        monkeypatch.setattr(FolderSource, "lend", counting)


ONE_TENSOR = 2 * SHAPE[0] * SHAPE[1]
MODEL = 2 * ONE_TENSOR + 2 * SHAPE[1]


@pytest.mark.parametrize(("last", "again"), [("linear", 1), ("ties", 1), ("mdm_oc", 1)])
def test_what_is_read_again_is_kept(
    family: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    last: str,
    again: int,
) -> None:
    one = document("linear", "M1", "M2", FIRST["linear"], "one")
    text = filled(family, f"{one}---\n{document(last, 'one', 'M3', LAST[last])}")
    with mdm_kit.plan(text) as plan:
        planned = plan.costs
    reading = Reading(monkeypatch)
    mdm_kit.merge(text, tmp_path / "out", threads=2)
    assert reading.nbytes["m1"] == reading.nbytes["m2"] == again * MODEL
    assert planned.again_nbytes == 0
    assert planned.read_nbytes == sum(reading.nbytes.values())


def test_what_does_not_fit_is_made_again_as_planned(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = document("linear", "M1", "M2", FIRST["linear"], "one")
    last = document("mdm_oc", "one", "M3", LAST["mdm_oc"])
    text = filled(family, f"{one}---\n{last}")
    memory = ONE_TENSOR // 2
    with mdm_kit.plan(text, memory_nbytes=memory, threads=1) as plan:
        planned = plan.costs
    reading = Reading(monkeypatch)
    mdm_kit.merge(text, tmp_path / "out", threads=1, memory_nbytes=memory)
    assert planned.again_nbytes == 2 * ONE_TENSOR
    assert 1.8 * MODEL < reading.nbytes["m1"] <= 2 * MODEL


def test_a_nan_is_told_of_its_stage_by_every_worker(family: Path, tmp_path: Path) -> None:
    broken = read_model(family / "m1")
    name = "model.layers.0.mlp.up_proj.weight"
    broken[name].view(-1)[-5] = float("nan")
    write_model(tmp_path / "bad", broken)
    text = document("ties", str(tmp_path / "bad"), "M2", FIRST["ties"], "one")
    text = filled(family, f"{text}---\n{document('linear', 'one', 'M3', LAST['linear'])}")
    with pytest.raises(MisfitError, match="up_proj") as caught:
        mdm_kit.merge(text, tmp_path / "out", threads=4)
    assert "bad" in str(caught.value)
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.real
@pytest.mark.parametrize(("last", "kept"), [("linear", 0), ("ties", 2)])
def test_memory_is_less_than_the_plan_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, kept: int
) -> None:
    """One-pass readers hold tiles of a stage, others the tensor they read again and the next."""
    monkeypatch.undo()
    torch.manual_seed(0)
    shape = (16_000, 1024)
    base = {f"model.layers.{i}.mlp.up_proj.weight": torch.randn(shape).bfloat16() for i in (0, 1)}
    write_model(tmp_path / "base", base)
    for i in (1, 2, 3):
        write_model(tmp_path / f"m{i}", fine_tuned(base, i))
    one = document("linear", "M1", "M2", FIRST["linear"], "one")
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(filled(tmp_path, f"{one}---\n{document(last, 'one', 'M3', LAST[last])}"))
    program = [sys.executable, "-m", "mdm_kit"]
    idle = measure([sys.executable, "-c", "import torch, mdm_kit.run.merge"]).anonymous_nbytes
    merge = measure([*program, "merge", str(recipe), str(tmp_path / "out"), "--threads", "1"])
    used = merge.anonymous_nbytes - idle
    with mdm_kit.plan(recipe, threads=1) as plan:
        assert used < plan.costs.memory_nbytes
    nbytes = 2 * shape[0] * shape[1]
    assert kept * nbytes < used < (kept + 1) * nbytes
