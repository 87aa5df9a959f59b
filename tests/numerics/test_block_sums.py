"""Inner products are sums over fixed blocks: the two models decide their bits and nothing else."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from families import Spec, tensors
from merged_families import (
    BLOCK,
    products,
    promised,
    recipe,
    related,
    triangles,
    write_models,
    write_related,
)

import mdm_kit

LONG = 3 * BLOCK + 4_465
FOUR = (1.0, 0.7, -0.4, 0.2)
SPEC: Spec = {
    "model.layers.0.a": ((70_001,), torch.float32),
    "model.layers.0.b": ((3, BLOCK), torch.bfloat16),
    "model.layers.1.a": ((11, 13), torch.float16),
    "model.scale": ((), torch.float64),
    "model.empty": ((0,), torch.float32),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_long_tensor_is_its_blocks_joined_left_to_right(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    base = tensors({"whole": ((LONG,), dtype)}, 0)
    models = related(base, "0.3", 4)
    starts = range(0, LONG, BLOCK)
    for model in (base, *models):
        whole = model["whole"]
        model |= {f"part{i}": whole[s : s + BLOCK].clone() for i, s in enumerate(starts)}
    write_models(tmp_path, base, models)
    mdm_kit.merge(recipe(tmp_path, FOUR), tmp_path / "out")
    rows = triangles(tmp_path / "out")
    parts = [rows[f"part{i}"] for i in range(len(starts))]
    joined = []
    for column in zip(*parts, strict=True):
        total = 0.0
        for entry in column:  # not `sum`, which compensates from Python 3.12 on
            total += entry
        joined.append(total)
    assert rows["whole"] == tuple(joined)
    if dtype is not torch.bfloat16:  # its products are so short that their sums are exact
        assert rows["whole"] != tuple(math.fsum(c) for c in zip(*parts, strict=True))


def test_sums_are_float64_to_the_end(tmp_path: Path) -> None:
    base, models = write_related(tmp_path, "0.3", SPEC)
    mdm_kit.merge(recipe(tmp_path), tmp_path / "out")
    for name, row in triangles(tmp_path / "out").items():
        wide = base[name].dtype is torch.float64
        formed = [m[name].double() - base[name].double() for m in models]
        deltas = [(d if wide else d.float().double()).flatten() for d in formed]
        pairs = [(i, j) for i in range(3) for j in range(i + 1)]
        for (i, j), found in zip(pairs, row, strict=True):
            want = math.fsum((deltas[i] * deltas[j]).tolist())
            assert abs(found - want) <= 1e-14 * deltas[i].norm() * deltas[j].norm()


@pytest.mark.parametrize("scope", ["tensor", "layer", "global"])
def test_other_models_leave_no_trace_in_a_product(tmp_path: Path, scope: str) -> None:
    """Two of four models, all four, in any order: the same bits for the same two."""
    write_related(tmp_path, "0.3", SPEC, n=4)
    found: dict[tuple[str, frozenset[str]], set[float]] = {}
    orders = [("m1", "m2"), ("m4", "m1", "m2"), ("m3", "m4"), ("m4", "m3", "m2", "m1")]
    for i, names in enumerate([*orders, ("m1", "m2", "m3", "m4")]):
        text = recipe(tmp_path, FOUR[: len(names)], f"scope: {scope}", names=names)
        mdm_kit.merge(text, tmp_path / f"out{i}", memory_nbytes=(1, 2_000_000_000)[i % 2])
        for tensor, row in products(tmp_path / f"out{i}").items():
            for pair, value in row.items():
                found.setdefault((tensor, pair), set()).add(value)
    assert len(found) == 5 * 10
    assert {key: values for key, values in found.items() if len(values) > 1} == {}


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_threads_and_budget_leave_no_trace(tmp_path: Path, scope: str) -> None:
    """1,100,003 elements are one tile or two or seventeen, read once or twice."""
    spec: Spec = {"w": ((1_100_003,), torch.bfloat16), "v": ((LONG,), torch.float32)}
    write_related(tmp_path, "0.3", spec)
    text, seen = recipe(tmp_path, parameters=f"scope: {scope}"), set()
    pairs = itertools.product((1, 2, 5), (1, 3_000_000, 2_000_000_000))
    for i, (threads, memory) in enumerate(pairs):
        out = tmp_path / f"out{i}"
        mdm_kit.merge(text, out, threads=threads, memory_nbytes=memory)
        seen.add(tuple(promised(out).items()))
    assert len(seen) == 1


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_sums_over_tensors_are_rounded_once(tmp_path: Path, scope: str) -> None:
    """2^54 + 2 + 2: added one by one, both twos are lost."""
    long, short = torch.tensor([2.0**27, 0.0]), torch.tensor([1.0, 1.0])
    model = {f"model.layers.0.{n}": d for n, d in (("a", long), ("b", short), ("c", short.clone()))}
    base = {n: torch.zeros(2) for n in model}
    write_models(tmp_path, base, [model])
    mdm_kit.merge(recipe(tmp_path, (1.0,), f"scope: {scope}"), tmp_path / "out")
    (group,) = mdm_kit.Manifest.from_bytes(
        (tmp_path / "out" / "mdm_manifest.json").read_bytes()
    ).groups.values()
    assert group.q == [2.0**54 + 4]
