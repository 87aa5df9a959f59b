"""Merges of real models by the command line: they load, they work, and every weight is right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from real_checks import (
    Writer,
    assert_bfloat16_merge,
    assert_float32_merge,
    base_and_deltas,
    embedding_margin,
    retrieval,
    stored,
    weighted_mean,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from real_models import RealFamily

pytestmark = pytest.mark.real

LINEAR, TASK_ARITHMETIC = (3.0, 1.0), (0.6, 0.8)


def mdm_kit(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command without network; its exit code is the caller's to judge."""
    return subprocess.run(
        [sys.executable, "-m", "mdm_kit", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def merge(recipe: dict[str, object], folder: Path, *options: str) -> Path:
    """Merge `recipe` into a new folder inside `folder` and return it."""
    file, out = folder / "recipe.yml", folder / "merged"
    file.write_text(json.dumps(recipe))  # JSON is YAML
    done = mdm_kit("merge", file, out, *options)
    assert done.returncode == 0, done.stderr
    return out


def merge_for_a_while(recipe: dict[str, object], folder: Path, *options: str) -> Iterator[Path]:
    """Yield a merge and remove it: pytest would keep those of three sessions."""
    try:
        yield merge(recipe, folder, *options)
    finally:
        shutil.rmtree(folder)


def models(family: RealFamily, weights: tuple[float, ...]) -> list[dict[str, object]]:
    """Return the `models` of a recipe: every fine-tune with its weight."""
    return [
        {"model": str(folder), "parameters": {"weight": weight}}
        for folder, weight in zip(family.fine_tunes.values(), weights, strict=True)
    ]


@pytest.fixture(scope="module")
def minilm_linear(minilm, tmp_path_factory):
    """The weighted mean of the MiniLM fine-tunes, which names no base."""
    recipe = {"merge_method": "linear", "models": models(minilm, LINEAR), "dtype": "float32"}
    yield from merge_for_a_while(recipe, tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="module")
def minilm_sum(minilm, tmp_path_factory):
    """The MiniLM fine-tunes' deltas on their base."""
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": str(minilm.base),
        "models": models(minilm, TASK_ARITHMETIC),
        "dtype": "float32",
    }
    yield from merge_for_a_while(recipe, tmp_path_factory.mktemp("sum"))


@pytest.fixture(scope="module")
def smollm2_sum(smollm2, tmp_path_factory):
    """The SmolLM2 fine-tunes' deltas on their base, in bfloat16 and in several shards."""
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": str(smollm2.base),
        "models": models(smollm2, TASK_ARITHMETIC),
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }
    yield from merge_for_a_while(recipe, tmp_path_factory.mktemp("llm"), "--shard-size", "100MB")


def test_minilm_linear_is_the_weighted_mean(minilm, minilm_linear):
    got, first = stored(minilm_linear), stored(next(iter(minilm.fine_tunes.values())))
    want = weighted_mean(list(minilm.fine_tunes.values()), LINEAR)
    assert set(got) == set(first)
    for name, exact in want.items():
        assert_float32_merge(got[name], exact, first[name])


def test_minilm_task_arithmetic_is_base_plus_weighted_deltas(minilm, minilm_sum):
    got, base = stored(minilm_sum), stored(minilm.base)
    want = base_and_deltas(minilm.base, list(minilm.fine_tunes.values()), TASK_ARITHMETIC)
    assert set(got) == set(base)
    for name, exact in want.items():
        assert_float32_merge(got[name], exact, base[name])


@pytest.mark.parametrize("merged", ["minilm_linear", "minilm_sum"])
def test_integer_tensors_are_copied(minilm, merged, request):
    name = "embeddings.position_ids"
    got = stored(request.getfixturevalue(merged))[name]
    assert got.dtype is torch.int64
    assert torch.equal(got, stored(minilm.base)[name])


@pytest.mark.parametrize("merged", ["minilm_linear", "minilm_sum"])
def test_merged_embeddings_still_mean_something(minilm, merged, request):
    folder = request.getfixturevalue(merged)
    assert embedding_margin(folder) > 0.2
    for name, pairs in minilm.held_out.items():
        assert retrieval(folder, pairs) > retrieval(minilm.base, pairs), name


def test_smollm2_task_arithmetic_is_rounded_once(smollm2, smollm2_sum):
    got, base = stored(smollm2_sum), stored(smollm2.base)
    tuned = [stored(folder) for folder in smollm2.fine_tunes.values()]
    want = base_and_deltas(smollm2.base, list(smollm2.fine_tunes.values()), TASK_ARITHMETIC)
    assert set(got) == set(base)
    for name, exact in want.items():
        magnitude = base[name].double().abs()
        for weight, model in zip(TASK_ARITHMETIC, tuned, strict=True):
            magnitude += weight * (model[name].double() - base[name].double()).abs()
        assert_bfloat16_merge(got[name], exact, magnitude)


def test_what_no_fine_tune_touched_is_the_base_to_the_bit(smollm2, smollm2_sum):
    name = "model.embed_tokens.weight"
    assert torch.equal(stored(smollm2_sum)[name], stored(smollm2.base)[name])


def test_smollm2_comes_in_shards_with_an_index(smollm2_sum):
    index = json.loads((smollm2_sum / "model.safetensors.index.json").read_text())
    shards = {file.name: file for file in smollm2_sum.glob("model-*.safetensors")}
    assert set(index["weight_map"].values()) == set(shards)
    assert len(shards) == 3
    assert set(index["weight_map"]) == set(stored(smollm2_sum))


def test_smollm2_keeps_its_tied_head(smollm2_sum):
    config = json.loads((smollm2_sum / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"
    model = Writer(smollm2_sum).model
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_side_files_are_the_bases(smollm2, smollm2_sum):
    names = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    for name in [*names, "generation_config.json"]:
        assert (smollm2_sum / name).read_bytes() == (smollm2.base / name).read_bytes(), name


def test_merged_smollm2_knows_what_its_parents_know(smollm2, smollm2_sum):
    base, merged = Writer(smollm2.base), Writer(smollm2_sum)
    assert "Paris" in merged.greedy("The capital of France is")
    for name, pairs in smollm2.held_out.items():
        assert merged.loss(pairs) < base.loss(pairs), name


@pytest.mark.parametrize("merged", ["minilm_linear", "minilm_sum", "smollm2_sum"])
def test_verify_passes(merged, request):
    done = mdm_kit("verify", request.getfixturevalue(merged))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("merged", ["minilm_sum", "smollm2_sum"])
def test_verify_finds_one_flipped_bit(merged, request):
    folder = request.getfixturevalue(merged)
    shard = max(folder.glob("model*.safetensors"))
    end = shard.stat().st_size - 1
    with shard.open("r+b") as file:
        try:
            flip(file, end)
            done = mdm_kit("verify", folder)
        finally:
            flip(file, end)
    assert done.returncode == 4, done.stdout + done.stderr
    assert shard.name in done.stdout + done.stderr


def flip(file, position: int) -> None:
    """Flip the lowest bit of one byte; twice is as if never."""
    file.seek(position)
    byte = file.read(1)[0]
    file.seek(position)
    file.write(bytes([byte ^ 1]))
    file.flush()


def test_a_second_merge_has_the_same_bytes(minilm, minilm_sum, tmp_path):
    recipe = minilm_sum.parent / "recipe.yml"
    done = mdm_kit("merge", recipe, tmp_path / "again", "--threads", "1")
    assert done.returncode == 0, done.stderr
    names = [file.name for file in minilm_sum.glob("*.safetensors")]
    for name in [*names, "config.json", "tokenizer.json"]:
        assert (tmp_path / "again" / name).read_bytes() == (minilm_sum / name).read_bytes()
    shutil.rmtree(tmp_path / "again")
