"""Models of several towers: slices in one of them, models in another, the rest as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import fine_tuned, random_tensor, read_model, write_model
from torch import Tensor

import mdm_kit
from mdm_kit.errors import RecipeError

TEXT, SEES = "model.language_model.layers.", "model.vision_tower.vision_model.encoder.layers."
CONFIG = {
    "model_type": "llava",
    "tie_word_embeddings": False,
    "text_config": {"num_hidden_layers": 4, "layer_types": list("abcd")},
    "vision_config": {"num_hidden_layers": 2},
}


def towers() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    names = [
        "model.language_model.embed_tokens.weight",
        "model.language_model.norm.weight",
        "lm_head.weight",
        "model.multi_modal_projector.linear_1.weight",
        "model.vision_tower.vision_model.embeddings.patch_embedding.weight",
        "model.vision_tower.vision_model.post_layernorm.weight",
        *(f"{TEXT}{i}.{part}.weight" for i in range(4) for part in ("mlp.up_proj", "norm")),
        *(f"{SEES}{i}.mlp.fc1.weight" for i in range(2)),
    ]
    return {name: random_tensor((6, 4), torch.float32, generator) for name in names}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("towers")
    base = towers()
    write_model(root / "base", base, config=CONFIG)
    for i in (1, 2):
        write_model(root / f"m{i}", fine_tuned(base, i), config=CONFIG)
    return root


def recipe(family: Path, text: str) -> str:
    for name in ("base", "m1", "m2"):
        text = text.replace(name.upper(), str(family / name))
    return text


SLICED = """
merge_method: linear
base_model: BASE
modules:
  text_decoder:
    slices:
      - sources: [{model: BASE, layer_range: [0, 3]}, {model: M1, layer_range: [0, 3]}]
      - sources: [{model: M2, layer_range: [1, 4]}]
"""


def test_one_tower_is_sliced_and_the_others_stay(family: Path, tmp_path: Path) -> None:
    text = SLICED + "parameters: {weight: 0.5}\n"
    with mdm_kit.plan(recipe(family, text)) as plan:
        assert plan.dropped == ()
    mdm_kit.merge(recipe(family, text), tmp_path / "out")
    base, m1, m2 = (read_model(family / name) for name in ("base", "m1", "m2"))
    out = read_model(tmp_path / "out")
    for name, tensor in out.items():
        if "vision" in name or "projector" in name:
            want = base[name]
        elif name.startswith(TEXT) and int(name[len(TEXT)]) > 2:
            layer = int(name[len(TEXT)])
            want = m2[f"{TEXT}{layer - 2}{name[len(TEXT) + 1 :]}"]
        elif name in ("lm_head.weight", "model.language_model.norm.weight"):
            want = m2[name]
        else:
            want = ((base[name].double() + m1[name].double()) / 2).float()
        torch.testing.assert_close(tensor, want, rtol=0, atol=1e-7, msg=name)
    assert len(out) == len(base) + 4
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    text_config = {"num_hidden_layers": 6, "layer_types": list("abcbcd")}
    assert made == CONFIG | {"text_config": text_config}


def test_what_stays_has_the_dtype_of_the_result(family: Path, tmp_path: Path) -> None:
    text = SLICED + "parameters: {weight: 0.5}\ndtype: bfloat16\n"
    mdm_kit.merge(recipe(family, text), tmp_path / "out")
    base, out = read_model(family / "base"), read_model(tmp_path / "out")
    assert {t.dtype for t in out.values()} == {torch.bfloat16}
    name = "model.multi_modal_projector.linear_1.weight"
    assert torch.equal(out[name], base[name].to(torch.bfloat16))
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound


WHOLE = """
merge_method: task_arithmetic
base_model: BASE
modules:
  vision_tower:
    models: [{model: M1, parameters: {weight: [0, 1]}}]
  text_decoder:
    models: [{model: M1}, {model: M2, parameters: {weight: 0.25}}]
    parameters: {weight: 0.5}
"""


def test_each_tower_has_its_models_and_parameters(family: Path, tmp_path: Path) -> None:
    mdm_kit.merge(recipe(family, WHOLE), tmp_path / "out")
    base, m1, m2 = (read_model(family / name) for name in ("base", "m1", "m2"))
    out = read_model(tmp_path / "out")
    name = f"{TEXT}2.mlp.up_proj.weight"
    want = base[name] + 0.5 * (m1[name] - base[name]) + 0.25 * (m2[name] - base[name])
    torch.testing.assert_close(out[name], want, rtol=0, atol=1e-6)
    assert torch.equal(out[f"{SEES}0.mlp.fc1.weight"], base[f"{SEES}0.mlp.fc1.weight"])
    last = f"{SEES}1.mlp.fc1.weight"
    torch.testing.assert_close(out[last], m1[last], rtol=0, atol=1e-6)
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound


def test_a_model_leaves_every_tower(family: Path, tmp_path: Path) -> None:
    mdm_kit.merge(recipe(family, WHOLE), tmp_path / "out")
    never = WHOLE.replace("{model: M1}, ", "").replace(
        "  vision_tower:\n    models: [{model: M1, parameters: {weight: [0, 1]}}]\n", ""
    )
    want = mdm_kit.merge(recipe(family, never), tmp_path / "never")
    assert mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", ["m1"]).shards == want.shards


WRONG = {
    "slices of two towers": (
        "merge_method: passthrough\nslices:\n  - sources: [{model: M1, layer_range: [0, 1]}]\n",
        "its modules: text_decoder, multi_modal_projector, vision_tower",
    ),
    "no such module": (SLICED.replace("text_decoder", "decoder"), "has no module 'decoder'"),
    "one within another": (
        WHOLE.replace("vision_tower:", "vision_model:").replace("text_decoder:", "model:"),
        "has tensors of another module",
    ),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said(family: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        mdm_kit.plan(recipe(family, text + "parameters: {weight: 1}\n"))
    assert words in str(caught.value)
