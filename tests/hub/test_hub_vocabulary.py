"""Models on the Hub whose rows lie in different orders: the bytes of a merge here, fetched once."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import torch
from families import write_model
from ranged_merges import data_nbytes, weights
from test_hub_merge import run
from tokenizers import Tokenizer, models
from vocabularies import EMBEDDING, HEAD, side_files

import mdm_kit

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

WORDS = [f"w{i}" for i in range(3_000)]
WIDTH = 64


def write(folder: Path, words: list[str], rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = {EMBEDDING: (rows, WIDTH), HEAD: (rows, WIDTH), "model.norm.weight": (WIDTH,)}
    made = {n: torch.randn(s, generator=generator) for n, s in shapes.items()}
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}))
    config = {"model_type": "llama", "vocab_size": rows}
    write_model(folder, made, config=config, side_files=side_files(tokenizer))


def shuffled(words: list[str], seed: int) -> list[str]:
    return random.Random(seed).sample(words, len(words))


CASES = {
    "appended": ([*WORDS, "only a"], [*WORDS, "only b"], "{source: union}"),
    "shuffled": (shuffled(WORDS, 1), shuffled(WORDS[:2_900], 2), "{source: union}"),
    "padded": ([*WORDS, "only a"], WORDS, "{source: union, pad_to_multiple_of: 2048}"),
}


def recipe(where: str, block: str) -> str:
    return (
        f"merge_method: task_arithmetic\nbase_model: {where}/base\nmodels:\n"
        f"  - {{model: {where}/a, parameters: {{weight: 0.5}}}}\n"
        f"  - {{model: {where}/b, parameters: {{weight: 0.5}}}}\ntokenizer: {block}\n"
    )


@pytest.mark.parametrize("case", CASES)
def test_rows_of_the_hub_are_fetched_once(
    hub: Hub, client: Client, tmp_path: Path, case: str
) -> None:
    a, b, block = CASES[case]
    for seed, (name, words) in enumerate((("base", WORDS), ("a", a), ("b", b))):
        write(tmp_path / name, words, len(words), seed)
        hub.repo_folder(f"org/{name}", tmp_path / name)
    nbytes = sum(p.stat().st_size for p in tmp_path.rglob("*.safetensors"))
    mdm_kit.merge(mdm_kit.read_recipe(recipe(str(tmp_path), block)), tmp_path / "here")
    (client.home / "r.yml").write_text(recipe("org", block))
    planned = run(client, "plan", "r.yml")
    assert planned["code"] == 0, planned["err"]
    said = str(planned["out"]) + str(planned["err"])
    assert ("through temporary files" in said) is (case != "appended")
    hub.log.clear()
    merged = run(client, "merge", "r.yml", "out")
    assert merged["code"] == 0, merged["err"]
    assert weights(client.home / "out") == weights(tmp_path / "here")
    assert data_nbytes(hub.log) <= 1.1 * nbytes
    assert not list(client.cache.rglob("*.safetensors"))
