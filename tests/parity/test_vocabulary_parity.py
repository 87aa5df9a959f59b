"""Vocabularies through mergekit and through mdm_kit: every token's rows are the same ones.

mergekit appends new tokens in the order of a hash, so rows are compared by their tokens. It
crashes where tokens are added to the tokenizer of the base, so they are added to a union here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import yaml
from families import read_model
from tokenizers import Tokenizer
from torch import Tensor
from vocabularies import EMBEDDING, HEAD, tokenizer_with, write

import mdm_kit

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # of its imports
    pytest.mark.skipif(
        not importlib.util.find_spec("mergekit"), reason="mergekit is not installed"
    ),
]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vocabularies")
    write(root / "base", tokenizer_with(["<|old|>"]), seed=0)
    write(root / "a", tokenizer_with(["<|a|>", "<|both|>"]), seed=1)
    write(root / "b", tokenizer_with(["<|both|>", "<|old|>", "<|b|>"], ["word"]), seed=2)
    return root


CASES = {
    "union": "tokenizer_source: union",
    "base": "tokenizer_source: base",
    "a model's": "tokenizer_source: A_",
    "a model's, as a block": "tokenizer: {source: B_}",
    "padded": "tokenizer: {source: union, pad_to_multiple_of: 64}",
    "a token of a model": 'tokenizer: {source: union, tokens: {"<|both|>": {source: B_}}}',
    "a forced token": 'tokenizer: {source: union, tokens: {"<|both|>": {source: A_, force: true}}}',
    "another token's row": "tokenizer: {source: union, tokens: {new: {source: "
    "{kind: model_token, model: A_, token: '<|a|>'}, force: true}}}",
    "an id's row": "tokenizer: {source: union, tokens: {new: {source: "
    "{kind: model_token, model: B_, token_id: 5}}}}",
    "zeros": "tokenizer: {source: union, tokens: {new: {source: {kind: zero}}}}",
    "forced zeros": "tokenizer: {source: union, tokens: "
    '{"<|old|>": {source: {kind: zero}, force: true}}}',
}

METHODS = {
    "task_arithmetic": """
merge_method: task_arithmetic
base_model: BASE_
models:
  - {model: A_, parameters: {weight: 0.7}}
  - {model: B_, parameters: {weight: 0.4}}
""",
    "linear": """
merge_method: linear
models:
  - {model: BASE_, parameters: {weight: 0.2}}
  - {model: A_, parameters: {weight: 0.5}}
  - {model: B_, parameters: {weight: 0.3}}
""",
}


def rows_by_token(folder: Path, name: str) -> dict[str, Tensor]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    matrix = read_model(folder)[name].double()
    return {t: matrix[i] for t, i in tokenizer.get_vocab().items()}


def run_mergekit(text: str, out: Path) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    config = MergeConfiguration.model_validate(yaml.safe_load(text))
    run_merge(config, str(out), MergeOptions(quiet=True, write_model_card=False))


# Without a base_model mergekit's base is any of the models, by the hash seed.
RUNS = [(c, m) for c in CASES for m in METHODS if (c, m) != ("base", "linear")]


@pytest.mark.parametrize(("case", "method"), RUNS)
def test_every_token_has_the_same_rows(
    family: Path, tmp_path: Path, case: str, method: str
) -> None:
    text = f"{METHODS[method]}{CASES[case]}\n"
    for mark, folder in (("BASE_", "base"), ("A_", "a"), ("B_", "b")):
        text = text.replace(mark, f"{family}/{folder}")
    run_mergekit(text, tmp_path / "theirs")
    mdm_kit.merge(mdm_kit.read_recipe(text), tmp_path / "ours")
    for name in (EMBEDDING, HEAD):
        got = rows_by_token(tmp_path / "ours", name)
        want = rows_by_token(tmp_path / "theirs", name)
        assert got.keys() == want.keys()
        for token, row in want.items():
            torch.testing.assert_close(got[token], row, rtol=2e-6, atol=2e-6, msg=token)
        ours, theirs = (read_model(tmp_path / f)[name] for f in ("ours", "theirs"))
        assert ours.shape == theirs.shape
        padding = slice(len(want), None)
        torch.testing.assert_close(ours[padding], theirs[padding], rtol=2e-6, atol=2e-6)
