"""What configs of stages say of tied weights, found out once, and known after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import fine_tuned, write_model
from llamas import Sizes, config, llama
from staged import content, filled, one_by_one

import mdm_kit
from mdm_kit.bundle.stage import work_folder

CHAIN = """\
name: a
merge_method: mdm_oc
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {scope: global}
---
name: b
merge_method: linear
models:
  - model: a
    parameters: {weight: [{filter: lm_head, value: 0.9}, {value: 0.5}]}
  - model: M2
parameters: {weight: 0.5}
---
name: c
merge_method: mdm_oc
base_model: b
models: [{model: M1}, {model: M2}]
parameters: {scope: global}
---
merge_method: passthrough
models: [{model: c}]
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    """Models whose heads are their embeddings, and a chain in which that ends."""
    base = llama(Sizes(2, 8, 12, 16), torch.bfloat16)
    said = config(Sizes(2, 8, 12, 16), torch.bfloat16) | {"tie_word_embeddings": True}
    for i, name in enumerate(("base", "m1", "m2")):
        model = fine_tuned(base, i) if i else base
        model["lm_head.weight"] = model["model.embed_tokens.weight"].clone()
        write_model(tmp_path / name, model, config=said)
    return filled(tmp_path, CHAIN)


class Stop:
    """Stops the merge when it begins to write its last tensors."""

    def __init__(self, starts: int) -> None:
        self.left = starts

    def start(self, total_nbytes: int, done_nbytes: int) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def advance(self, nbytes: int) -> None: ...

    def say(self, text: str) -> None: ...


def test_it_is_known_after_the_stages_it_follows_from_are_gone(text: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        mdm_kit.merge(text, out, progress=Stop(3))
    assert [p.name for p in (work_folder(out) / "stages").iterdir()] == ["003"]
    mdm_kit.merge(text, out)
    wanted = content(one_by_one(text, tmp_path / "each"))
    assert content(out) == wanted
    assert json.loads(wanted["config.json"])["tie_word_embeddings"] is False
    assert mdm_kit.verify(out, deep=True).sound
