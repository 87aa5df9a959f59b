"""Tiny models of many architectures, as transformers builds them: merged, loaded, run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from tiny_models import MODELS, MORE, build
from torch import Tensor

import mdm_kit
from mdm_kit.planner.patterns import is_before_layers, layer_position

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]

ALL = MODELS | MORE
METHODS = ("task_arithmetic", "ties", "mdm_oc", "covmerge", "opcm", "slerp")
"""Each family is merged by the first and by one of the others, in turn."""
SIZE = 1e-4
"""Small enough for the outputs to move along with the weights."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    level = tf.logging.get_verbosity()
    tf.logging.set_verbosity_error()
    tf.logging.disable_progress_bar()
    yield
    tf.logging.set_verbosity(level)
    tf.logging.enable_progress_bar()


def fine_tuned(family: str, seed: int) -> Any:
    model: Any = build(family)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(SIZE * torch.randn(p.shape, generator=generator))
    return model


def inputs_of(family: str) -> dict[str, Tensor]:
    ids = torch.tensor([[5, 9, 7, 4, 11, 3]])
    pixels = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    if family in ("vit", "dinov2"):
        return {"pixel_values": pixels}
    if family in ("clip", "siglip"):
        return {"input_ids": ids, "pixel_values": pixels}
    if family == "whisper":
        sound = torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(3))
        return {"input_features": sound, "decoder_input_ids": ids}
    if family in ("t5", "bart"):
        return {"input_ids": ids, "decoder_input_ids": ids}
    if family == "llava":
        # An image of 8 x 8 pixels is four patches.
        return {"input_ids": torch.tensor([[5, 60, 60, 60, 60, 3]]), "pixel_values": pixels}
    return {"input_ids": ids}


def output_of(model: Any, family: str) -> Tensor:
    with torch.no_grad():
        found = model.eval()(**inputs_of(family))
    out: Tensor = found.logits_per_text if family in ("clip", "siglip") else found.logits
    return out


def loaded(family: str, folder: Path) -> Any:
    """Return the model in a folder; every name of it is known and none is missed."""
    model, info = getattr(tf, ALL[family][1]).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model


def recipe(root: Path, method: str, names: list[str]) -> str:
    own = {"slerp": "", "opcm": ""}.get(method, ", parameters: {weight: 0.5}")
    models = "".join(f"  - {{model: {root}/{name}{own}}}\n" for name in names)
    more = "parameters: {t: 0.5}\n" if method == "slerp" else ""
    if method in ("ties", "task_arithmetic"):
        more = "parameters: {normalize: false}\n"
    return f"merge_method: {method}\nbase_model: {root}/base\nmodels:\n{models}{more}"


@pytest.mark.parametrize("family", ALL)
def test_merged_loaded_and_run(family: str, tmp_path: Path) -> None:
    build(family).save_pretrained(tmp_path / "base")
    for i in (1, 2):
        fine_tuned(family, i).save_pretrained(tmp_path / f"m{i}")
    outputs = {n: output_of(loaded(family, tmp_path / n), family) for n in ("base", "m1", "m2")}
    before = {n: t.dtype for n, t in build(family).state_dict().items()}

    text = recipe(tmp_path, "task_arithmetic", ["m1", "m2"])
    mdm_kit.merge(text, tmp_path / "mean")
    mean = loaded(family, tmp_path / "mean")
    assert {n: t.dtype for n, t in mean.state_dict().items()} == before
    got, want = output_of(mean, family), (outputs["m1"] + outputs["m2"]) / 2
    moved = max(float((outputs[m] - outputs["base"]).abs().max()) for m in ("m1", "m2"))
    assert float((got - want).abs().max()) < 0.1 * moved

    other = METHODS[1 + list(ALL).index(family) % (len(METHODS) - 1)]
    names = ["m1"] if other == "slerp" else ["m1", "m2"]
    mdm_kit.merge(recipe(tmp_path, other, names), tmp_path / "other")
    found = output_of(loaded(family, tmp_path / "other"), family)
    assert torch.isfinite(found).all()
    assert 0 < float((found - outputs["base"]).abs().max()) < 20 * moved

    own = "merge_method: linear\nparameters: {weight: 1}\nmodels:\n" + "".join(
        f"  - {{model: {tmp_path}/m1, name: {name}}}\n" for name in ("once", "again")
    )
    mdm_kit.merge(own, tmp_path / "itself")
    assert torch.equal(output_of(loaded(family, tmp_path / "itself"), family), outputs["m1"])


TWO_TOWERS = {
    *("clip", "siglip", "whisper", "t5", "bart"),
    *("llava", "gemma3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "mistral3"),
}
SINGLE_STACK = [family for family in ALL if family not in TWO_TOWERS]


@pytest.mark.parametrize("family", SINGLE_STACK)
def test_names_tell_what_runs_before_the_layers(family: str) -> None:
    """Against the order in which the model's modules are called."""
    model: Any = build(family)
    called: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: called.append(name))
    output_of(model, family)
    inside = [i for i, name in enumerate(called) if layer_position(f"{name}.")]
    first, last = min(inside), max(inside)
    for name, _ in model.named_parameters():
        owner = name.rpartition(".")[0]
        if layer_position(name) is None and owner in called:
            when = called.index(owner)
            assert is_before_layers(name) == (when < first), name
            assert when < first or when > last


AROUND = {
    "llava": "llama",
    "gemma3": "gemma3 text",
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "mistral3": "mistral",
}
"""Vision-language models and the text model each is built around."""


@pytest.mark.parametrize("whole", AROUND)
def test_a_text_model_and_the_language_part_are_one(whole: str, tmp_path: Path) -> None:
    part = AROUND[whole]
    names = {"whole": whole, "part": part}
    for seed, (name, family) in enumerate(names.items()):
        fine_tuned(family, seed).save_pretrained(tmp_path / name)
    expected = {n: text_part(loaded(f, tmp_path / n)) for n, f in names.items()}
    assert expected["whole"].keys() == expected["part"].keys()
    for base, other in (("whole", "part"), ("part", "whole")):
        text = (
            f"merge_method: task_arithmetic\nbase_model: {tmp_path}/{base}\n"
            f"models: [{{model: {tmp_path}/{other}, parameters: {{weight: 1}}}}]\n"
        )
        mdm_kit.merge(text, tmp_path / f"on-{base}")
        got = loaded(names[base], tmp_path / f"on-{base}")
        for name, tensor in text_part(got).items():
            torch.testing.assert_close(tensor, expected[other][name], rtol=1e-6, atol=1e-7)
        assert torch.isfinite(output_of_text(got)).all()


def text_part(model: Any) -> dict[str, Tensor]:
    """The weights of the language part, as a text model calls them."""
    whole: dict[str, Tensor] = model.state_dict()
    inside = "model.language_model."
    if not any(name.startswith(inside) for name in whole):
        return whole
    return {
        name.replace(inside, "model."): tensor
        for name, tensor in whole.items()
        if name.startswith((inside, "lm_head."))
    }


def output_of_text(model: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model.eval()(input_ids=torch.tensor([[5, 9, 7, 4, 11, 3]])).logits
    return out


@pytest.mark.parametrize("base", ["llama", "llama tied"])
@pytest.mark.parametrize("other", ["llama", "llama tied"])
def test_tied_and_untied_models_are_loaded_as_they_were_merged(
    base: str, other: str, tmp_path: Path
) -> None:
    fine_tuned(base, 1).save_pretrained(tmp_path / "base")
    fine_tuned(other, 2).save_pretrained(tmp_path / "other")
    text = (
        f"merge_method: task_arithmetic\nbase_model: {tmp_path}/base\n"
        f"models: [{{model: {tmp_path}/other, parameters: {{weight: 1}}}}]\n"
    )
    mdm_kit.merge(text, tmp_path / "out")
    got = loaded(base, tmp_path / "out")
    assert got.config.tie_word_embeddings == ("llama" not in (base, other))
    want = output_of_text(loaded(other, tmp_path / "other"))
    torch.testing.assert_close(output_of_text(got), want, rtol=1e-4, atol=1e-5)
