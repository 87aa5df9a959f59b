"""What a recipe's models changed: families whose answers are known by construction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import factors, write_adapter
from families import fine_tuned, write_model
from torch import Tensor

import mdm_kit
from mdm_kit.cli.main import main
from mdm_kit.errors import FindingsError, NotFiniteError
from mdm_kit.run.inspected import InspectedModel, Inspection
from mdm_kit.sources.loan import Loan
from mdm_kit.sources.memory import MemorySource
from mdm_kit.words import TensorInfo

Model = dict[str, Tensor]
HIDDEN, WIDE = 64, 96
MAPS = {
    f"model.layers.{i}.{name}": shape
    for i in range(3)
    for name, shape in {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "mlp.up_proj": (WIDE, HIDDEN),
        "mlp.down_proj": (HIDDEN, WIDE),
    }.items()
}


def base_model(dtype: torch.dtype) -> Model:
    shapes = {"model.embed_tokens.weight": (70, HIDDEN), "model.norm.weight": (HIDDEN,)}
    shapes |= {f"{m}.weight": shape for m, shape in MAPS.items()}
    g = torch.Generator().manual_seed(0)
    return {n: (0.05 * torch.randn(s, generator=g)).to(dtype) for n, s in shapes.items()}


def with_merged_adapter(base: Model, seed: int) -> Model:
    held = factors(MAPS, rank=4, seed=seed, size=0.01)
    moved = dict(base)
    for m in MAPS:
        change = held[f"{m}.lora_B.weight"] @ held[f"{m}.lora_A.weight"]
        name = f"{m}.weight"
        moved[name] = (base[name].float() + change).to(base[name].dtype)
    return moved


def written(root: Path, method: str = "task_arithmetic", **models: Model) -> Path:
    """Write models and a recipe of all but `base`, which is its base."""
    for name, model in models.items():
        write_model(root / name, model, config={"model_type": "llama"})
    return recipe_of(root, [n for n in models if n != "base"], method)


def recipe_of(root: Path, refs: list[str], method: str = "task_arithmetic") -> Path:
    lines = [f"merge_method: {method}", "dtype: float32", "parameters: {weight: 1.0}", "models:"]
    lines += [f"  - model: {'+'.join(f'{root}/{p}' for p in ref.split('+'))}" for ref in refs]
    if method != "linear":
        lines.append(f"base_model: {root}/base")
    (root / "recipe.yml").write_text("\n".join(lines) + "\n")
    return root / "recipe.yml"


def by_name(found: Inspection) -> dict[str, InspectedModel]:
    return {m.name: m for m in found.models}


class Counting(MemorySource):
    """Counts the bytes it lends."""

    lent = 0

    def lend(self, info: TensorInfo, start: int, nbytes: int) -> Loan:
        self.lent += nbytes
        return super().lend(info, start, nbytes)


def flat(model: Model) -> np.ndarray:  # type: ignore[type-arg]
    return np.concatenate([t.double().numpy().ravel() for t in model.values()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_kinds_of_change(tmp_path: Path, dtype: torch.dtype) -> None:
    base = base_model(dtype)
    full = fine_tuned(base, 1, 0.01)
    partial = base | {n: t for n, t in full.items() if "layers.1" in n and "up" not in n}
    recipe = written(
        tmp_path,
        base=base,
        full=full,
        lora=with_merged_adapter(base, 2),
        copy=base,
        partial=partial,
    )
    found = mdm_kit.inspect_recipe(recipe, threads=2)
    models = by_name(found)
    assert [(m.kind, m.rank) for m in found.models] == [
        ("full fine-tune", None),
        ("merged adapter", 4),
        ("identical", None),
        ("partial", None),
    ]
    assert models["copy"].norm == models["copy"].changed == 0.0
    assert models["partial"].unchanged == (
        "model.layers.0",
        "model.layers.2",
        "model.embed_tokens.weight",
        "model.layers.*.mlp.up_proj.weight",
    )
    assert len(models["lora"].maps) == 9
    assert all(m.top_16 > 0.95 and (m.rank_90 or 99) <= 4 for m in models["lora"].maps)
    assert all((m.rank_90 or 99) > 30 for m in models["full"].maps)
    rules = {a.rule for a in found.advice}
    assert {"identical", "merged_adapters"} <= rules


def test_norms_and_cosines_are_those_of_float64(tmp_path: Path) -> None:
    base = base_model(torch.float32)
    one = fine_tuned(base, 1, 0.01)
    third = fine_tuned(base, 3, 0.01)
    two = {n: b + 0.5 * (one[n] - b) + 0.75**0.5 * (third[n] - b) for n, b in base.items()}
    recipe = written(tmp_path, base=base, one=one, two=two, third=third)
    found = mdm_kit.inspect_recipe(recipe, threads=2)
    changes = {n: flat(m) - flat(base) for n, m in (("one", one), ("two", two), ("third", third))}
    for name, model in by_name(found).items():
        norm = np.linalg.norm(changes[name])
        assert model.norm == pytest.approx(norm, rel=1e-9)
        assert model.share == pytest.approx(norm / np.linalg.norm(flat(base)), rel=1e-9)
        assert model.changed == pytest.approx(np.mean(changes[name] != 0))
    for pair in found.pairs:
        a, b = changes[pair.one], changes[pair.other]
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert pair.cosine == pytest.approx(cosine, abs=1e-9)
        assert pair.smallest < pair.cosine < pair.largest
    assert found.pairs[0].cosine == pytest.approx(0.5, abs=0.02)
    assert [a.figure for a in found.advice if a.rule == "overlapping"] == [
        f"cosine {p.cosine:.4f}" for p in (found.pairs[0], found.pairs[2])
    ]
    assert found == mdm_kit.inspect_recipe(recipe, threads=1)


def test_adapters_beside_weights(tmp_path: Path) -> None:
    base = base_model(torch.bfloat16)
    write_adapter(tmp_path / "ad", factors({"model.layers.0.mlp.up_proj": (WIDE, HIDDEN)}, rank=2))
    written(tmp_path, base=base, full=fine_tuned(base, 1, 0.01))
    found = mdm_kit.inspect_recipe(recipe_of(tmp_path, ["base+ad", "full"]))
    adapter = found.models[0]
    held = factors({"up": (WIDE, HIDDEN)}, rank=2)
    change = 2 * (held["up.lora_B.weight"].double() @ held["up.lora_A.weight"].double())
    assert (adapter.kind, adapter.rank) == ("adapter", 2)
    assert adapter.norm == pytest.approx(float(change.norm()), rel=1e-6)
    assert adapter.share == pytest.approx(adapter.norm / np.linalg.norm(flat(base)), rel=1e-9)
    n = sum(t.numel() for t in base.values())
    assert adapter.changed == pytest.approx(WIDE * HIDDEN / n)
    # The base, the fine-tune, and the one tensor that the adapter changes, offered as float32.
    assert found.read_nbytes == 2 * 2 * n + 4 * WIDE * HIDDEN


def test_unequal_far_and_nearly_equal_models(tmp_path: Path) -> None:
    base = base_model(torch.float32)
    far = fine_tuned(base, 1, 0.2)
    near = {n: t + 1e-4 * torch.randn(t.shape) for n, t in far.items()}
    recipe = written(tmp_path, base=base, far=far, near=near, small=fine_tuned(base, 2, 0.01))
    found = mdm_kit.inspect_recipe(recipe)
    said = [(a.rule, a.text) for a in found.advice]
    rules = [rule for rule, _ in said]
    assert rules == ["another_base", "another_base", "nearly_the_same", "unequal"]
    assert said[-1][1].startswith("small ")


def test_orthogonal_changes(tmp_path: Path) -> None:
    base = base_model(torch.float32)
    recipe = written(tmp_path, base=base, a=fine_tuned(base, 1, 0.01), b=fine_tuned(base, 2, 0.01))
    found = mdm_kit.inspect_recipe(recipe)
    assert [a.rule for a in found.advice] == ["orthogonal"]
    assert "task_arithmetic" in found.advice[0].text


def test_without_a_base_the_first_model_stands_for_it(tmp_path: Path) -> None:
    base = base_model(torch.float32)
    recipe = written(tmp_path, "linear", a=base, b=fine_tuned(base, 2, 0.01))
    found = mdm_kit.inspect_recipe(recipe)
    assert (found.reference, found.is_base) == ("a", False)
    assert [m.name for m in found.models] == ["b"]
    assert "no base" in found.notes[0]


def test_of_stages_the_models_they_are_made_of(tmp_path: Path) -> None:
    base = base_model(torch.float32)
    recipe = written(tmp_path, base=base, a=fine_tuned(base, 1, 0.01), b=fine_tuned(base, 2, 0.01))
    alone = mdm_kit.inspect_recipe(recipe)
    last = (
        f"merge_method: task_arithmetic\ndtype: float32\nbase_model: {tmp_path}/base\n"
        "parameters: {weight: 1.0}\nmodels: [{model: first}]\n"
    )
    recipe.write_text(f"name: first\n{recipe.read_text()}---\n{last}")
    found = mdm_kit.inspect_recipe(recipe)
    assert (found.reference, found.models, found.pairs) == ("base", alone.models, alone.pairs)
    assert any("stages are not inspected" in note and "first" in note for note in found.notes)


def test_a_number_that_is_none(tmp_path: Path) -> None:
    base = base_model(torch.float32)
    bad = fine_tuned(base, 2)
    bad["model.norm.weight"][3] = torch.nan
    recipe = written(tmp_path, base=base, bad=bad)
    with pytest.raises(NotFiniteError, match=r"model\.norm\.weight"):
        mdm_kit.inspect_recipe(recipe)


def test_every_weight_is_read_once(tmp_path: Path) -> None:
    base = base_model(torch.float32)
    counted = {
        "./base": Counting.from_tensors("base", base),
        "./b": Counting.from_tensors("b", fine_tuned(base, 1)),
    }
    text = (
        "merge_method: task_arithmetic\ndtype: float32\nparameters: {weight: 1.0}\n"
        "base_model: ./base\nmodels: [{model: ./b}]\n"
    )
    found = mdm_kit.inspect_recipe(text, sources=counted)
    lent = sum(s.lent for s in counted.values())
    assert lent == found.read_nbytes + found.again_nbytes
    assert found.read_nbytes == 2 * sum(t.nbytes for t in base.values())
    assert found.again_nbytes == 2 * sum(t.nbytes for n, t in base.items() if "layers" in n)


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = base_model(torch.bfloat16)
    recipe = written(tmp_path, base=base, lora=with_merged_adapter(base, 2), copy=base)
    assert main(["inspect", str(recipe), "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "looks like an adapter merged into weights, rank about 4" in out
    assert "identical to the base" in out
    assert "mdm-kit extract-lora" in out
    assert main(["inspect", str(recipe), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "mdm_kit/inspection/1"
    assert document["models"][0]["rank"] == 4
    assert document["pairs"][0]["cosine"] is None


def test_a_recipe_with_errors_ends_as_its_plan_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_model(torch.float32)
    recipe = written(tmp_path, base=base, b={n: t[:-1].clone() for n, t in base.items()})
    planned = main(["plan", str(recipe)])
    said = capsys.readouterr().err
    assert main(["inspect", str(recipe)]) == planned == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == said
    with pytest.raises(FindingsError):
        mdm_kit.inspect_recipe(recipe)
