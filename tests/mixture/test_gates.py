"""Routers are the states prompts have in the base; chance depends on seed and names alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mixtures import write_dense

from mdm_kit.mixture.gates import GateSource, Prompted
from mdm_kit.mixture.noise import NoiseSource
from mdm_kit.sources import open_source
from mdm_kit.words import ModelRef

WORDS = Prompted("words", ("the cat sat on the mat", "a cat"), ("print x",))
SUMS = Prompted("sums", ("one plus two",), ())


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dense(tmp_path_factory.mktemp(request.param), request.param)


def gates(folder: Path, mode: str, experts: list[Prompted], seed: int = 0) -> list[np.ndarray]:
    with open_source(ModelRef(str(folder / "base")), "base") as base:
        source = GateSource("gates", base, {"g": experts}, mode, (3, 32), seed)
        tensors = source.headers().tensors
        return [
            np.frombuffer(source.read(tensors[f"g.{i}"]), np.float32).reshape(-1, 32)
            for i in range(3)
        ]


def wanted(folder: Path, expert: Prompted, mode: str) -> torch.Tensor:
    """What transformers' own forward says, (layers, hidden)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")

    def side(texts: tuple[str, ...]) -> torch.Tensor:
        rows = []
        for text in texts:
            ids = tokenizer("<s>" + text, return_tensors="pt", add_special_tokens=False)
            with torch.no_grad():
                states = model(**ids, output_hidden_states=True).hidden_states[:-1]
            each = torch.stack(states)[:, 0].double()
            rows.append(each.mean(1) if mode == "hidden_avg" else each[:, -1])
        return torch.stack(rows).mean(0)

    found = side(expert.positive)
    found = found - side(expert.negative) if expert.negative else found
    return found / found.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("mode", ["hidden", "hidden_last", "hidden_avg"])
def test_rows_are_the_states_transformers_has(folder: Path, mode: str) -> None:
    found = np.stack(gates(folder, mode, [WORDS, SUMS]))  # (layers, experts, hidden)
    for k, expert in enumerate((WORDS, SUMS)):
        want = wanted(folder, expert, mode)
        np.testing.assert_allclose(found[:, k], want.numpy(), atol=2e-5)


@pytest.mark.parametrize(
    "mode", ["hidden", "hidden_avg", "cheap_embed", "random", "uniform_random"]
)
def test_no_row_depends_on_another_expert(folder: Path, mode: str) -> None:
    both = gates(folder, mode, [WORDS, SUMS])
    alone = gates(folder, mode, [SUMS])
    for layer in range(3):
        assert np.array_equal(both[layer][1], alone[layer][0])
        assert not np.array_equal(both[layer][0], both[layer][1])


def test_cheap_rows_are_embedded_tokens(folder: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    embedding = load_file(folder / "base" / "model.safetensors")["model.embed_tokens.weight"]
    ids = tokenizer("<s>" + SUMS.positive[0], add_special_tokens=False)["input_ids"]
    row = embedding[ids].double().sum(0)
    for found in gates(folder, "cheap_embed", [SUMS]):
        np.testing.assert_allclose(found[0], (row / row.norm()).numpy(), atol=1e-6)


def test_rows_by_chance_follow_the_seed(folder: Path) -> None:
    first, other = gates(folder, "random", [SUMS], 0), gates(folder, "random", [SUMS], 1)
    assert not np.array_equal(first[0], other[0])
    uniform = np.stack(gates(folder, "uniform_random", [SUMS]))
    assert abs(uniform).max() <= 1 / np.sqrt(32)
    assert uniform.std() == pytest.approx(1 / np.sqrt(3 * 32), rel=0.2)


def test_any_part_of_noise_is_the_same_noise() -> None:
    source = NoiseSource("noise", {"a": (300, 700), "b": (3,)}, 5)
    info = source.headers().tensors["a"]
    whole = np.frombuffer(source.read(info), np.float32)
    for start, n in ((0, 10), (65_530, 20), (131_072, 65_536), (209_999, 1)):
        loan = source.lend(info, 4 * start, 4 * n)
        assert np.array_equal(np.frombuffer(loan.view(), np.float32), whole[start : start + n])
        loan.release()
    assert whole.mean() == pytest.approx(0, abs=0.01)
    assert whole.std() == pytest.approx(1, abs=0.01)
    b = np.frombuffer(source.read(source.headers().tensors["b"]), np.float32)
    assert not np.array_equal(b, whole[:3])
