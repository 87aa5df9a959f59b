"""Merges that grow and shrink as sums: the bytes are those of one merge of what is left."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from continual import addition, away, growing_recipe, merge, shards, write_growing

import mdm_kit
from mdm_kit import Addition
from mdm_kit.api_edits import Running
from mdm_kit.errors import FindingsError, IntegrityError, RecipeError, SourceError, UsageError
from mdm_kit.run.progress import Silent

METHODS = ("opcm", "covmerge")
SETTINGS = {
    "opcm": ("", "scale: 0.7, variant: paper", "scale_scope: tensor, lambda: 1.5, alpha: 0.3",
             "variant: legacy, alpha: 1", "tail_tol: 0.001, project: ['*_proj.weight']"),
    "covmerge": ("", "ridge: 0, other: 1.0", "ridge: 0.1, lambda: [0.5, 1.2]", "side: output"),
}  # fmt: skip
CASES = [(m, s) for m in METHODS for s in SETTINGS[m]]


@pytest.mark.parametrize(("method", "settings"), CASES)
def test_one_by_one_equals_all_at_once_though_the_old_are_gone(
    tmp_path: Path, method: str, settings: str
) -> None:
    write_growing(tmp_path, "llama", 4)
    whole = merge(growing_recipe(tmp_path, method, [1, 2, 3, 4], settings), tmp_path / "whole")
    grown = tmp_path / "out1"
    merge(growing_recipe(tmp_path, method, [1], settings), grown)
    for i in (2, 3, 4):
        away(tmp_path, [i - 1])
        before, grown = grown, tmp_path / f"out{i}"
        mdm_kit.add(before, grown, [addition(tmp_path, i, method)])
    assert shards(grown) == whole
    found = mdm_kit.verify(grown)
    assert found.sound, found.faults
    assert [s.name for s in found.manifest.sources] == ["base", "m1", "m2", "m3", "m4"]


@pytest.mark.parametrize("method", METHODS)
def test_several_at_once_join_odd_maps_in_bfloat16(tmp_path: Path, method: str) -> None:
    write_growing(tmp_path, "odd", 4)
    whole = merge(growing_recipe(tmp_path, method, [1, 2, 3, 4]), tmp_path / "whole")
    merge(growing_recipe(tmp_path, method, [1, 2]), tmp_path / "two")
    away(tmp_path, [1, 2])
    new = [addition(tmp_path, i, method) for i in (3, 4)]
    mdm_kit.add(tmp_path / "two", tmp_path / "four", new)
    assert shards(tmp_path / "four") == whole


@pytest.mark.parametrize("kind", ["llama", "odd"])
def test_opcm_steps_back_without_any_model(tmp_path: Path, kind: str) -> None:
    write_growing(tmp_path, kind, 3)
    two = merge(growing_recipe(tmp_path, "opcm", [1, 2]), tmp_path / "two")
    merge(growing_recipe(tmp_path, "opcm", [1, 2, 3]), tmp_path / "three")
    away(tmp_path, [1, 2, 3])
    mdm_kit.unmerge(tmp_path / "three", tmp_path / "back", ["m3"])
    assert shards(tmp_path / "back") == two
    assert mdm_kit.verify(tmp_path / "back").sound
    with pytest.raises(SourceError, match="m1"):  # what was before m2 is not kept any more
        mdm_kit.unmerge(tmp_path / "back", tmp_path / "further", ["m2"])
    with pytest.raises(SourceError, match="m2"):
        mdm_kit.unmerge(tmp_path / "three", tmp_path / "other", ["m1"])


def test_opcm_without_an_early_model_is_made_anew(tmp_path: Path) -> None:
    write_growing(tmp_path, "llama", 3)
    wanted = merge(growing_recipe(tmp_path, "opcm", [2, 3]), tmp_path / "wanted")
    merge(growing_recipe(tmp_path, "opcm", [1, 2, 3], keep="references"), tmp_path / "three")
    away(tmp_path, [1])
    mdm_kit.unmerge(tmp_path / "three", tmp_path / "out", ["m1"])
    assert shards(tmp_path / "out").items() >= wanted.items()


@pytest.mark.parametrize("kind", ["llama", "odd"])
@pytest.mark.parametrize("drop", [["m1"], ["m3"], ["m2", "m4"]])
def test_covmerge_loses_any_model_to_the_bit_and_reads_only_that(
    tmp_path: Path, kind: str, drop: list[str]
) -> None:
    write_growing(tmp_path, kind, 4)
    left = [i for i in (1, 2, 3, 4) if f"m{i}" not in drop]
    wanted = merge(growing_recipe(tmp_path, "covmerge", left), tmp_path / "wanted")
    merge(growing_recipe(tmp_path, "covmerge", [1, 2, 3, 4]), tmp_path / "four")
    away(tmp_path, left)
    with pytest.raises(SourceError, match=f"m{left[0]}"):
        mdm_kit.unmerge(tmp_path / "four", tmp_path / "out", drop)
    done = mdm_kit.unmerge(tmp_path / "four", tmp_path / "out", drop, mode="exact")
    assert shards(tmp_path / "out") == wanted
    assert done.manifest.history[-1].certificate.leak == 0.0
    assert mdm_kit.verify(tmp_path / "out").sound


def test_a_merge_that_lost_a_model_grows_like_one_that_never_had_it(tmp_path: Path) -> None:
    write_growing(tmp_path, "llama", 4)
    wanted = merge(growing_recipe(tmp_path, "covmerge", [1, 3, 4]), tmp_path / "wanted")
    merge(growing_recipe(tmp_path, "covmerge", [1, 2, 3]), tmp_path / "three")
    mdm_kit.unmerge(tmp_path / "three", tmp_path / "two", ["m2"], mode="exact")
    away(tmp_path, [1, 2, 3])
    mdm_kit.add(tmp_path / "two", tmp_path / "out", [addition(tmp_path, 4, "covmerge")])
    assert shards(tmp_path / "out") == wanted


@pytest.mark.parametrize("kind", ["llama", "odd"])
def test_covmerge_in_any_order_is_the_same(tmp_path: Path, kind: str) -> None:
    write_growing(tmp_path, kind, 3)
    found = []
    for i, order in enumerate(itertools.permutations([1, 2, 3])):
        text = growing_recipe(tmp_path, "covmerge", order, keep="none")
        found.append(merge(text, tmp_path / f"out{i}"))
    assert all(f["model.safetensors"] == found[0]["model.safetensors"] for f in found)


def test_any_threads_budget_and_layout_give_the_same(tmp_path: Path) -> None:
    write_growing(tmp_path, "odd", 3)
    for method, settings in (("opcm", ""), ("opcm", "scale: 1"), ("covmerge", "")):
        text = growing_recipe(tmp_path, method, [1, 2, 3], settings, keep="none")
        one = merge(text, tmp_path / "one", threads=1)
        many = merge(text, tmp_path / "many", threads=4, memory_nbytes=1)
        kept = merge(text.replace("keep: none", "keep: state"), tmp_path / "kept", threads=2)
        assert one == many
        assert kept["model.safetensors"] == one["model.safetensors"]
        for out in ("one", "many", "kept"):
            mdm_kit.verify(tmp_path / out)
            (tmp_path / out).rename(tmp_path / f"{out}-{method}-{len(settings)}")


@pytest.mark.parametrize("method", METHODS)
def test_deep_verification_finds_a_merge_what_it_says_it_is(tmp_path: Path, method: str) -> None:
    write_growing(tmp_path, "odd", 3)
    merge(growing_recipe(tmp_path, method, [1, 2]), tmp_path / "two")
    mdm_kit.add(tmp_path / "two", tmp_path / "three", [addition(tmp_path, 3, method)])
    found = mdm_kit.verify(tmp_path / "three", deep=True)
    assert found.sound, found.faults


def test_from_weights_alone_the_cost_is_said_and_true(tmp_path: Path) -> None:
    write_growing(tmp_path, "llama", 3, torch.bfloat16)
    settings = "lambda: 1.5"
    text = growing_recipe(tmp_path, "opcm", [1, 2, 3], settings, more="out_dtype: float32")
    merge(text, tmp_path / "whole")
    merge(growing_recipe(tmp_path, "opcm", [1, 2], settings, keep="references"), tmp_path / "two")
    away(tmp_path, [1, 2])
    heard = Heard()
    new = [addition(tmp_path, 3, "opcm")]
    done = mdm_kit.add(tmp_path / "two", tmp_path / "out", new, progress=heard)
    assert "read back from its weights, as they were rounded to BF16" in " ".join(heard.lines)
    sums = done.manifest.sums
    assert sums.rounded == 2
    apart, size = distance(tmp_path / "out", tmp_path / "whole", tmp_path / "base")
    assert 0.5 * sums.rounding < apart / size < 3 * sums.rounding  # written in bfloat16, too
    with pytest.raises(UsageError, match="rounded weights"):
        mdm_kit.verify(tmp_path / "out", deep=True)


class Heard(Silent):
    """Keeps what a merge tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def distance(a: Path, b: Path, base: Path) -> tuple[float, float]:
    """How far two merges are apart, and how large the second one's change is."""
    from families import read_model

    one, two, origin = (read_model(folder) for folder in (a, b, base))
    names = [n for n, t in origin.items() if t.dtype.is_floating_point]
    apart = sum(float((one[n].double() - two[n].double()).square().sum()) for n in names)
    size = sum(float((two[n].double() - origin[n].double()).square().sum()) for n in names)
    return apart**0.5, size**0.5


@pytest.mark.parametrize("method", METHODS)
def test_changed_sums_are_refused(tmp_path: Path, method: str) -> None:
    write_growing(tmp_path, "llama", 2)
    merge(growing_recipe(tmp_path, method, [1]), tmp_path / "one")
    (file,) = (tmp_path / "one" / "deltas").iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert not mdm_kit.verify(tmp_path / "one").sound
    with pytest.raises(IntegrityError, match="state-00001"):
        mdm_kit.add(tmp_path / "one", tmp_path / "two", [addition(tmp_path, 2, method)])
    file.unlink()
    with pytest.raises(SourceError, match="state-00001"):
        mdm_kit.add(tmp_path / "one", tmp_path / "two", [addition(tmp_path, 2, method)])
    assert not (tmp_path / "two").exists()


def test_covmerge_without_sums_needs_its_models(tmp_path: Path) -> None:
    write_growing(tmp_path, "llama", 3)
    whole = merge(
        growing_recipe(tmp_path, "covmerge", [1, 2, 3], keep="references"), tmp_path / "w"
    )
    merge(growing_recipe(tmp_path, "covmerge", [1, 2], keep="references"), tmp_path / "two")
    mdm_kit.add(tmp_path / "two", tmp_path / "three", [addition(tmp_path, 3, "covmerge")])
    assert shards(tmp_path / "three") == whole
    with pytest.raises(UsageError, match="keeps no sums"):
        mdm_kit.unmerge(tmp_path / "three", tmp_path / "out", ["m1"], mode="exact")


@pytest.mark.parametrize("method", METHODS)
def test_many_shards_hold_the_same_tensors(tmp_path: Path, method: str) -> None:
    models = write_growing(tmp_path, "odd", 3)
    from families import read_model

    text = growing_recipe(tmp_path, method, [1, 2])
    merge(text, tmp_path / "one")
    merge(text, tmp_path / "many", shard_nbytes=3000)
    assert len(list((tmp_path / "many" / "deltas").iterdir())) > 2
    mdm_kit.add(tmp_path / "one", tmp_path / "one+", [addition(tmp_path, 3, method)])
    running = Running(shard_nbytes=5000)
    mdm_kit.add(tmp_path / "many", tmp_path / "many+", [addition(tmp_path, 3, method)],
                running=running)  # fmt: skip
    one, many = read_model(tmp_path / "one+"), read_model(tmp_path / "many+")
    assert one.keys() == many.keys() == models[0].keys()
    assert all(torch.equal(one[n], many[n]) for n in one)


def opposites(root: Path, method: str) -> Sequence[dict[str, torch.Tensor]]:
    """Models whose changes cancel: the second is the base minus the first's change."""
    models = write_growing(root, "llama", 2)
    from families import write_model

    away(root, [2])
    mirrored = {
        n: (2 * t.double() - models[1][n].double()).to(t.dtype) if t.dtype.is_floating_point else t
        for n, t in models[0].items()
    }
    write_model(root / "m2", mirrored, config={"model_type": "llama"})
    return models


@pytest.mark.parametrize("method", METHODS)
def test_models_equal_to_the_base_change_nothing(tmp_path: Path, method: str) -> None:
    import shutil

    write_growing(tmp_path, "odd", 1)
    for i in (2, 3):
        shutil.copytree(tmp_path / "base", tmp_path / f"m{i}")
    none = merge(growing_recipe(tmp_path, method, [2, 3]), tmp_path / "none")
    assert none["model.safetensors"] == (tmp_path / "base" / "model.safetensors").read_bytes()
    one = merge(growing_recipe(tmp_path, method, [1], "scale: 1" if method == "opcm" else ""),
                tmp_path / "one")  # fmt: skip
    more = growing_recipe(tmp_path, method, [2, 1, 3], "scale: 1" if method == "opcm" else "")
    assert merge(more, tmp_path / "more")["model.safetensors"] == one["model.safetensors"]


def test_a_wide_map_goes_on_from_sums_that_are_lent_where_they_lie(tmp_path: Path) -> None:
    from families import fine_tuned, tensors, write_model

    base = tensors({"model.layers.0.mlp.up_proj.weight": ((16, 300), torch.float32)}, 0)
    models = [base, *(fine_tuned(base, i, 0.05) for i in (1, 2))]
    for name, model in zip(("base", "m1", "m2"), models, strict=True):
        write_model(tmp_path / name, model, config={"model_type": "llama"})
    whole = merge(growing_recipe(tmp_path, "covmerge", [1, 2]), tmp_path / "whole")
    one = merge(growing_recipe(tmp_path, "covmerge", [1]), tmp_path / "one")
    mdm_kit.add(tmp_path / "one", tmp_path / "two", [addition(tmp_path, 2, "covmerge")])
    assert shards(tmp_path / "two") == whole
    mdm_kit.unmerge(tmp_path / "two", tmp_path / "back", ["m2"], mode="exact")
    assert shards(tmp_path / "back") == one


def test_opcm_has_no_weights_and_says_why(tmp_path: Path) -> None:
    write_growing(tmp_path, "llama", 2)
    merge(growing_recipe(tmp_path, "opcm", [1]), tmp_path / "one")
    new = Addition(str(tmp_path / "m2"), weight=0.5)
    with pytest.raises(FindingsError, match="no parameter 'weight': each model's change is taken"):
        mdm_kit.add(tmp_path / "one", tmp_path / "two", [new])
    with pytest.raises(RecipeError, match="no parameter 'weight': each model's change is taken"):
        mdm_kit.merge(growing_recipe(tmp_path, "opcm", [1], "weight: 1"), tmp_path / "two")
    with pytest.raises(UsageError, match="opcm is no sum of deltas"):
        mdm_kit.unmerge(tmp_path / "one", tmp_path / "two", ["m1"], mode="exact")
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(("method", "mode"), [("opcm", "rebuild"), ("covmerge", "exact")])
def test_what_is_taken_out_of_sums_is_said_to_be_gone_to_the_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, mode: str
) -> None:
    from mdm_kit.cli.main import main

    write_growing(tmp_path, "llama", 2)
    merge(growing_recipe(tmp_path, method, [1, 2]), tmp_path / "two")
    asked = ["unmerge", str(tmp_path / "two"), str(tmp_path / "one"), "--drop", "m2"]
    assert main([*asked, "--mode", mode]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the bytes equal a merge that never contained it" in said
