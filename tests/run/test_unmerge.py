"""Models taken out and put in: the bytes are those of a merge that never was anything else."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from families import Spec, read_model, write_model
from merged_families import (
    BLOCK,
    Model,
    floating,
    manifest_of,
    products,
    promised,
    recipe,
    write_related,
)
from reference import dense

import mdm_kit
from mdm_kit.errors import IntegrityError, SourceError, UsageError
from mdm_kit.ledger.products import Products
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.edit import Settings
from mdm_kit.planner.edits import plan_add
from mdm_kit.run.merge import run_plan
from mdm_kit.run.opened_merge import opened_merge
from mdm_kit.sources import FolderSite, FolderSource

ALPHA = {"m1": "1.0", "m2": "0.7", "m3": "-0.4", "m4": "[0.2, 0.9]", "m5": "0.3", "m6": "1.1"}
SPEC: Spec = {
    "model.embed_tokens.weight": ((1201,), torch.float32),
    "model.layers.0.attn.weight": ((3, BLOCK), torch.bfloat16),
    "model.layers.0.mlp.weight": ((257, 9), torch.float16),
    "model.layers.1.attn.weight": ((40, 41), torch.bfloat16),
    "model.layers.1.mlp.weight": ((67,), torch.float64),
    "model.layers.2.attn.weight": ((7, 3), torch.bfloat16),
    "model.layers.2.scale": ((), torch.float32),
    "model.empty": ((0, 7), torch.float32),
    "model.ids": ((5,), torch.int64),
}
SCOPES = ("tensor", "layer", "global")
HOWS = ("gram_schmidt", "lowdin", "none")


def text(root: Path, names: Sequence[str], parameters: str = "", method: str = "mdm_oc") -> str:
    return recipe(root, [ALPHA[n] for n in names], parameters, method=method, names=names)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model, list[Model]]:
    root = tmp_path_factory.mktemp("family")
    base, models = write_related(root, "0.3", SPEC, n=6)
    return root, base, models


def fresh(root: Path, out: Path, names: Sequence[str], parameters: str, method: str) -> None:
    mdm_kit.merge(text(root, names, parameters, method), out)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("scope", SCOPES)
def test_three_out_and_two_back(
    family: tuple[Path, Model, list[Model]], tmp_path: Path, scope: str, how: str
) -> None:
    root, _, _ = family
    parameters = f"scope: {scope}, orthogonalize: {how}"
    fresh(root, tmp_path / "all", list(ALPHA), parameters, "mdm_oc")
    here, left = tmp_path / "all", list(ALPHA)
    for name in ("m4", "m1", "m6"):
        mdm_kit.unmerge(here, tmp_path / f"without-{name}", [name])
        here = tmp_path / f"without-{name}"
        left.remove(name)
        fresh(root, tmp_path / f"never-{name}", left, parameters, "mdm_oc")
        assert promised(here) == promised(tmp_path / f"never-{name}")
        assert products(here) == products(tmp_path / f"never-{name}")
        assert mdm_kit.verify(here).sound
    for name in ("m6", "m1"):
        weight = float(ALPHA[name])
        new = [mdm_kit.Addition(str(root / name), weight=weight)]
        mdm_kit.add(here, tmp_path / f"with-{name}", new)
        here = tmp_path / f"with-{name}"
        left.append(name)
        fresh(root, tmp_path / f"always-{name}", left, parameters, "mdm_oc")
        assert promised(here) == promised(tmp_path / f"always-{name}")
    assert [e.operation for e in manifest_of(here).history] == [
        "merge",
        *["unmerge"] * 3,
        "add",
        "add",
    ]
    assert mdm_kit.verify(here, deep=True).sound


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_methods_that_measure_nothing(
    family: tuple[Path, Model, list[Model]], tmp_path: Path, method: str
) -> None:
    root, _, _ = family
    names = ["m1", "m2", "m3", "m5"]
    fresh(root, tmp_path / "all", names, "normalize: true", method)
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m2"])
    fresh(root, tmp_path / "never", ["m1", "m3", "m5"], "normalize: true", method)
    assert promised(tmp_path / "out") == promised(tmp_path / "never")
    mdm_kit.add(tmp_path / "out", tmp_path / "in", [mdm_kit.Addition(str(root / "m2"), weight=0.7)])
    fresh(root, tmp_path / "again", ["m1", "m3", "m5", "m2"], "normalize: true", method)
    assert promised(tmp_path / "in") == promised(tmp_path / "again")


def test_threads_and_budgets_leave_no_trace(
    family: tuple[Path, Model, list[Model]], tmp_path: Path
) -> None:
    root, _, _ = family
    fresh(root, tmp_path / "all", list(ALPHA), "scope: layer", "mdm_oc")
    seen = set()
    for i, (threads, memory) in enumerate(itertools.product((1, 4), (1, 2_000_000_000))):
        running = mdm_kit.Running(threads=threads, memory_nbytes=memory)
        mdm_kit.unmerge(tmp_path / "all", tmp_path / f"u{i}", ["m2"], running=running)
        mdm_kit.add(
            tmp_path / f"u{i}",
            tmp_path / f"a{i}",
            [mdm_kit.Addition(str(root / "m2"), weight=0.7)],
            running=running,
        )
        seen.add(tuple(tuple(promised(tmp_path / f"{k}{i}").items()) for k in "ua"))
    assert len(seen) == 1


class Counted(FolderSource):
    """A folder that counts the bytes of weights it lends."""

    lent: dict[str, int]

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name, path)
        self.lent = {}

    def lend(self, info, start, nbytes):  # type: ignore[no-untyped-def]
        self.lent[info.name] = self.lent.get(info.name, 0) + nbytes
        return super().lend(info, start, nbytes)


def test_a_rebuild_reads_base_and_survivors_once_and_the_removed_model_never(
    family: tuple[Path, Model, list[Model]], tmp_path: Path
) -> None:
    root, base, _ = family
    names = ["m1", "m2", "m3"]
    for scope in SCOPES:
        out = tmp_path / scope
        out.mkdir()
        fresh(root, out / "all", names, f"scope: {scope}", "mdm_oc")
        counted = {n: Counted(n, root / n) for n in ("base", "m1", "m3")}
        hidden = root / "m2"
        hidden.rename(root / "gone")
        try:
            mdm_kit.unmerge(out / "all", out / "out", ["m2"], sources=counted)
        finally:
            (root / "gone").rename(hidden)
        sizes = {n: t.numel() * t.element_size() for n, t in base.items() if t.numel()}
        for source in counted.values():
            assert source.lent == sizes, scope
            source.close()


def test_an_added_model_costs_its_own_products(
    family: tuple[Path, Model, list[Model]], tmp_path: Path
) -> None:
    """Old products come from the ledger: what is wrong there stays wrong, and all else is right."""
    root, _, _ = family
    name = "model.layers.0.attn.weight"
    fresh(root, tmp_path / "all", ["m1", "m2"], "", "mdm_oc")
    new = [mdm_kit.Addition(str(root / "m3"), weight=1.0)]
    with opened_merge(FolderSite(tmp_path / "all"), {}) as (parents, known):
        wrong = Products(known.models, {**known.plain, name: Gram((1.0, 0.25, 1.0))})
        with plan_add(parents, wrong, new, Settings(10**9, Budget(2))) as plan:
            run_plan(plan, tmp_path / "out")
    fresh(root, tmp_path / "whole", ["m1", "m2", "m3"], "", "mdm_oc")
    got, want = products(tmp_path / "out")[name], products(tmp_path / "whole")[name]
    old = {frozenset(("m1",)): 1.0, frozenset(("m1", "m2")): 0.25, frozenset(("m2",)): 1.0}
    assert got == want | old


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("scope", SCOPES)
def test_a_subtraction_leaves_what_it_says(
    family: tuple[Path, Model, list[Model]], tmp_path: Path, scope: str, how: str
) -> None:
    root, base, _ = family
    names = ["m1", "m2", "m3", "m5"]
    parameters = f"scope: {scope}, orthogonalize: {how}"
    wide = "out_dtype: float64"
    first = recipe(root, [ALPHA[n] for n in names], parameters, wide, names=names)
    mdm_kit.merge(first, tmp_path / "all")
    rest = ["m1", "m3", "m5"]
    never = recipe(root, [ALPHA[n] for n in rest], parameters, wide, names=rest)
    mdm_kit.merge(never, tmp_path / "never")
    merged = mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m2"], mode="subtract")
    certificate = merged.manifest.history[-1].certificate
    assert certificate is not None
    got, want = read_model(tmp_path / "out"), read_model(tmp_path / "never")
    away = sum(float((got[n] - want[n]).double().square().sum()) for n in floating(base))
    size = sum(float((want[n] - base[n].double()).square().sum()) for n in floating(base))
    measured = (away / size) ** 0.5
    assert certificate.leak is not None
    assert abs(certificate.leak - measured) <= max(0.01 * measured, 1e-6)
    if how == "none":
        assert certificate.leak == 0.0
    else:
        assert certificate.leak > 0.03
        assert certificate.residue["m2"] > 0.03
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound
    mdm_kit.unmerge(tmp_path / "out", tmp_path / "clean", ["m2"])
    assert promised(tmp_path / "clean") == promised(tmp_path / "never")


def test_the_model_merged_last_can_be_subtracted_whole(
    family: tuple[Path, Model, list[Model]], tmp_path: Path
) -> None:
    root, _, _ = family
    fresh(root, tmp_path / "all", ["m1", "m2", "m3"], "", "mdm_oc")
    fresh(root, tmp_path / "never", ["m1", "m2"], "", "mdm_oc")
    (root / "m3").rename(root / "gone")
    try:
        merged = mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m3"], mode="subtract")
    finally:
        (root / "gone").rename(root / "m3")
    certificate = merged.manifest.history[-1].certificate
    assert certificate is not None
    assert (certificate.leak, certificate.residue) == (0.0, {"m3": 0.0})
    assert (
        promised(tmp_path / "out")["model.safetensors"]
        == (promised(tmp_path / "never")["model.safetensors"])
    )


@pytest.mark.parametrize("method", ["mdm_oc", "task_arithmetic"])
def test_an_exact_patch_is_one_step_away(
    family: tuple[Path, Model, list[Model]], tmp_path: Path, method: str
) -> None:
    root, base, _ = family
    fresh(root, tmp_path / "all", ["m1", "m2", "m3"], "", method)
    fresh(root, tmp_path / "never", ["m1", "m3"], "", method)
    if method == "task_arithmetic":  # its survivors' weights stay: they are not needed
        (root / "m1").rename(root / "gone")
    try:
        mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m2"], mode="exact")
    finally:
        if method == "task_arithmetic":
            (root / "gone").rename(root / "m1")
    got, want = read_model(tmp_path / "out"), read_model(tmp_path / "never")
    stored = read_model(tmp_path / "all")
    for name in floating(base):
        dtype, spread = base[name].dtype, base[name].double().abs() + 0.1
        step = dense.step(torch.maximum(want[name].abs(), stored[name].abs()), dtype)
        # Of these two the arithmetic itself is not much finer.
        coarse = {torch.float32: 2**-22, torch.float64: 2**-50}.get(dtype, 0.0) * spread
        assert bool(((got[name].double() - want[name].double()).abs() <= step + coarse).all()), name
    assert mdm_kit.verify(tmp_path / "out").sound
    with pytest.raises(UsageError, match="not repeat"):
        mdm_kit.verify(tmp_path / "out", deep=True)
    for mode in ("exact", "subtract"):
        with pytest.raises(UsageError, match="patched by exact already.*rebuild"):
            mdm_kit.unmerge(tmp_path / "out", tmp_path / "no", ["m1"], mode=mode)
    with pytest.raises(UsageError, match="rebuild it first.*--drop m2"):
        mdm_kit.add(tmp_path / "out", tmp_path / "no", [mdm_kit.Addition(str(root / "m5"))])
    mdm_kit.unmerge(tmp_path / "out", tmp_path / "clean", ["m2"])
    assert promised(tmp_path / "clean") == promised(tmp_path / "never")


def test_coefficients_can_be_reset(family: tuple[Path, Model, list[Model]], tmp_path: Path) -> None:
    root, _, _ = family
    fresh(root, tmp_path / "all", ["m1", "m2", "m3"], "", "mdm_oc")
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m2"], reset_coefficients=True)
    mdm_kit.merge(recipe(root, (1.0, 1.0), names=["m1", "m3"]), tmp_path / "ones")
    assert promised(tmp_path / "out") == promised(tmp_path / "ones")
    fresh(root, tmp_path / "ta", ["m1", "m2"], "", "task_arithmetic")
    with pytest.raises(UsageError, match="no default weight"):
        mdm_kit.unmerge(tmp_path / "ta", tmp_path / "no", ["m2"], reset_coefficients=True)


def test_near_copies_are_solved_from_the_sums_a_fresh_merge_would_use(tmp_path: Path) -> None:
    """Compensated sums stay in the ledger where the group needs them, and only there."""
    _, (one, two) = write_related(tmp_path, "0.3", SPEC, n=2)
    near = {
        n: t + 1e-5 * (two[n] - t) if t.dtype is torch.float32 else two[n] for n, t in one.items()
    }
    write_model(tmp_path / "near", near)
    names = ("m1", "near", "m2")
    mdm_kit.merge(recipe(tmp_path, (1.0, 0.5, 0.25), names=names), tmp_path / "all")
    ledger = manifest_of(tmp_path / "all").ledger
    assert ledger is not None
    assert "model.embed_tokens.weight" in ledger.exact
    for drop, left in (("near", ("m1", "m2")), ("m2", ("m1", "near")), ("m1", ("near", "m2"))):
        alpha = [dict(zip(names, (1.0, 0.5, 0.25), strict=True))[n] for n in left]
        mdm_kit.unmerge(tmp_path / "all", tmp_path / f"without-{drop}", [drop])
        mdm_kit.merge(recipe(tmp_path, alpha, names=left), tmp_path / f"never-{drop}")
        assert promised(tmp_path / f"without-{drop}") == promised(tmp_path / f"never-{drop}")


def test_a_wide_model_that_goes_takes_its_precision_with_it(tmp_path: Path) -> None:
    """Beside a float64 model all deltas are float64; without it they are float32 again."""
    _, models = write_related(tmp_path, "0.3", SPEC, n=3)
    write_model(
        tmp_path / "wide",
        {n: t.double() if t.is_floating_point() else t for n, t in models[1].items()},
    )
    for scope in SCOPES:
        out = tmp_path / scope
        out.mkdir()
        three = ("m1", "wide", "m3")
        text = recipe(tmp_path, (1.0, 0.5, 0.3), f"scope: {scope}", names=three)
        mdm_kit.merge(text, out / "all")
        mdm_kit.unmerge(out / "all", out / "out", ["wide"])
        text = recipe(tmp_path, (1.0, 0.3), f"scope: {scope}", names=("m1", "m3"))
        mdm_kit.merge(text, out / "never")
        assert promised(out / "out") == promised(out / "never")


def test_sources_that_moved_are_asked_for_and_found(
    family: tuple[Path, Model, list[Model]], tmp_path: Path
) -> None:
    root, _, _ = family
    for name in ("base", "m1", "m2"):
        shutil.copytree(root / name, tmp_path / name)
    mdm_kit.merge(text(tmp_path, ["m1", "m2"]), tmp_path / "all")
    (tmp_path / "m1").rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"m1 .*no longer where it was.*\n.*--source"):
        mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m2"])
    there = {"m1": str(tmp_path / "m2")}
    with pytest.raises(IntegrityError, match="not the model that was merged"):
        mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m2"], sources=there)
    with pytest.raises(UsageError, match="no model 'm7'"):
        mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m2"], sources={"m7": "x"})
    assert not (tmp_path / "out").exists()
    there = {"m1": str(tmp_path / "elsewhere")}
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m2"], sources=there)
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        (["m9"], "no model 'm9'.*m1, m2"),
        (["base"], "is the base of this merge"),
        (["m1", "m2"], "nothing would be left"),
        ([], "at least one model"),
    ],
)
def test_what_cannot_be_taken_out(
    family: tuple[Path, Model, list[Model]], tmp_path: Path, drop: list[str], words: str
) -> None:
    root, _, _ = family
    fresh(root, tmp_path / "all", ["m1", "m2"], "", "mdm_oc")
    for mode in ("rebuild", "exact", "subtract"):
        with pytest.raises(UsageError, match=words):
            mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", drop, mode=mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all"]


def test_a_method_says_what_it_can(family: tuple[Path, Model, list[Model]], tmp_path: Path) -> None:
    root, _, _ = family
    fresh(root, tmp_path / "all", ["m1", "m2", "m3"], "", "linear")
    for mode in ("exact", "subtract"):
        with pytest.raises(UsageError, match="linear is no sum of deltas.*possible: rebuild"):
            mdm_kit.unmerge(tmp_path / "all", tmp_path / "out", ["m1"], mode=mode)
    without = recipe(root, (1, 1), "", "ledger: {keep: none}", names=("m1", "m2"))
    mdm_kit.merge(without, tmp_path / "none")
    assert manifest_of(tmp_path / "none").undo == ["rebuild"]
    assert not (tmp_path / "none" / "mdm_ledger.safetensors").exists()
    with pytest.raises(UsageError, match="keeps no inner products.*possible: rebuild"):
        mdm_kit.unmerge(tmp_path / "none", tmp_path / "out", ["m1"], mode="subtract")
    mdm_kit.unmerge(tmp_path / "none", tmp_path / "out", ["m1"])
    mdm_kit.merge(recipe(root, (1,), names=("m2",)), tmp_path / "never")
    assert (
        promised(tmp_path / "out")["model.safetensors"]
        == (promised(tmp_path / "never")["model.safetensors"])
    )
    assert mdm_kit.verify(tmp_path / "none").sound
