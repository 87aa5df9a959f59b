"""Adapters that are not what they seem: refused by name in the plan, with nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import PREFIX, factors, write_adapter
from families import write_model
from safetensors.torch import save_file

from mdm_kit.cli.main import main

Q = "model.layers.0.self_attn.q_proj"
WIDE = "model.layers.0.mlp.up_proj"
SHAPES = {Q: (8, 8), WIDE: (24, 8)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tensors = {f"{m}.weight": torch.ones(s, dtype=torch.bfloat16) for m, s in SHAPES.items()}
    tensors["model.norm.weight"] = torch.ones(8, dtype=torch.bfloat16)
    write_model(tmp_path / "base", tensors, config={"model_type": "llama"})
    return tmp_path / "base"


def planned(base: Path, adapter: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    recipe = adapter.parent / "recipe.yml"
    recipe.write_text(
        f"merge_method: task_arithmetic\nbase_model: {base}\n"
        f"models: [{{model: '{base}+{adapter}', parameters: {{weight: 1.0}}}}]\n"
    )
    code = main(["merge", str(recipe), str(adapter.parent / "out")])
    said = capsys.readouterr()
    assert not (adapter.parent / "out").exists()
    assert "Traceback" not in said.err
    assert "internal error" not in said.err
    assert "\x1b" not in said.err
    return code, " ".join(said.err.split())


CONFIGS: dict[str, tuple[dict[str, Any], int, str]] = {
    "another kind": ({"peft_type": "IA3"}, 5, "found IA3"),
    "no kind": ({"peft_type": None}, 5, "found None"),
    "DoRA": ({"use_dora": True}, 5, "found DoRA"),
    "QA-LoRA": ({"use_qalora": True}, 5, "QA-LoRA"),
    "copied layers": ({"layer_replication": [[0, 2]]}, 5, "copies of layers"),
    "tokens": ({"trainable_token_indices": [3]}, 5, "tokens of its own"),
    "parameters": ({"target_parameters": ["w"]}, 5, "target_parameters"),
    "activated": ({"alora_invocation_tokens": [1]}, 5, "from a certain token on"),
    "PiSSA": ({"init_lora_weights": "pissa_niter_16"}, 5, "path_initial_model_for_weight"),
    "OLoRA": ({"init_lora_weights": "olora"}, 5, "olora"),
    "rank 0": ({"r": 0}, 4, "rank of at least 1, found 0"),
    "a rank of its own": ({"rank_pattern": {"q_proj": 3}}, 4, "expected factors of rank 3"),
    "half a rank": ({"r": 1.5}, 4, "rank of at least 1, found 1.5"),
    "a rank in words": ({"r": "two"}, 4, "r: expected a number, found 'two'"),
    "alpha true": ({"lora_alpha": True}, 4, "lora_alpha: expected a number"),
    "patterns in a list": ({"alpha_pattern": ["q"]}, 4, "expected an object"),
    "an endless pattern": ({"alpha_pattern": {"(a*)*b": 1}}, 5, "which is not read"),
    "many repeats": ({"alpha_pattern": {".*a.*b.*c.*d": 1}}, 5, "which is not read"),
    "an open bracket": ({"alpha_pattern": {"(q": 1}}, 5, "which is not read"),
    "a pattern to colour": ({"alpha_pattern": {"\x1b[31m": 1}}, 5, r"\x1b[31m"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_config_that_is_not_plain_is_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    config, code, words = CONFIGS[what]
    adapter = write_adapter(tmp_path / "lora", factors(SHAPES), **config)
    found, said = planned(base, adapter, capsys)
    assert (found, words in said) == (code, True), said


TEXTS: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"r: 8", "expected JSON"),
    "a list": (b"[]", "expected a JSON object"),
    "twice the same key": (b'{"peft_type": "LORA", "peft_type": "IA3"}', "more than once"),
    "no end": (b"[" * 100_000, "levels of nesting"),
    "NaN": (b'{"peft_type": "LORA", "lora_alpha": NaN}', "finite number"),
    "a huge number": (b'{"peft_type": "LORA", "r": ' + b"9" * 400 + b"}", "digits"),
    "bytes": (b"\xff\xfe", "UTF-8"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_config_that_cannot_be_read_is_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    text, words = TEXTS[what]
    adapter = write_adapter(tmp_path / "lora", factors(SHAPES))
    (adapter / "adapter_config.json").write_bytes(text)
    found, said = planned(base, adapter, capsys)
    assert (found, words in said) == (4, True), said


Tensors = dict[str, torch.Tensor]
EDITS: dict[str, tuple[Callable[[Tensors], object], int, str]] = {
    "no B": (lambda t: t.pop(f"{Q}.lora_B.weight"), 4, "only one of them"),
    "no A": (lambda t: t.pop(f"{Q}.lora_A.weight"), 4, "only one of them"),
    "magnitudes": (
        lambda t: t.update({f"{Q}.lora_magnitude_vector": torch.ones(8)}),
        5,
        "the magnitudes of DoRA",
    ),
    "another module": (
        lambda t: t.update(factors({"model.layers.7.mlp.up_proj": (24, 8)})),
        3,
        "'model.layers.7.mlp.up_proj.weight', which the model does not have",
    ),
    "a head that is tied": (
        lambda t: t.update(factors({"lm_head": (24, 8)})),
        3,
        "its head is tied to the embedding",
    ),
    "another width": (lambda t: t.update(factors({Q: (8, 9)})), 3, "B·A is [8, 9]"),
    "another height": (lambda t: t.update(factors({WIDE: (25, 8)})), 3, "B·A is [25, 8]"),
    "another rank": (lambda t: t.update(factors({Q: (8, 8)}, rank=3)), 4, "factors of rank 2"),
    "A and B of two ranks": (
        lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(3, 8)}),
        4,
        "found 3 in A and 2 in B",
    ),
    "a convolution": (
        lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(2, 8, 3, 3)}),
        5,
        "adapters of convolutions are not read",
    ),
    "a vector": (
        lambda t: t.update({f"model.norm.{k}": v for k, v in factors({"x": (8, 8)}).items()}),
        3,
        "which the model does not have",
    ),
    "a factor for a norm": (
        lambda t: t.update(factors({"model.norm": (8, 1)})),
        5,
        "expected matrices for model.norm",
    ),
    "integers": (
        lambda t: t.update({f"{Q}.lora_A.weight": torch.ones((2, 8), dtype=torch.int8)}),
        5,
        "expected floating numbers, found I8",
    ),
    "a bias of nothing": (
        lambda t: t.update({f"{Q}.lora_B.bias": torch.ones(8)}),
        3,
        "'model.layers.0.self_attn.q_proj.bias', which the model does not have",
    ),
    "nothing": (lambda t: t.clear(), 4, "holds no tensor"),
    "names to colour": (
        lambda t: t.update(factors({"\x1b[31mmodel": (8, 8)})),
        3,
        r"\x1b[31mmodel",
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_tensors_that_do_not_fit_are_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    edit, code, words = EDITS[what]
    tensors = factors(SHAPES)
    edit(tensors)
    adapter = write_adapter(tmp_path / "lora", tensors)
    found, said = planned(base, adapter, capsys)
    assert (found, words in said) == (code, True), said


def test_a_change_to_what_is_quantised_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = {f"{Q}.weight": torch.zeros((8, 8), dtype=torch.uint8)}
    write_model(tmp_path / "base4", codes, config={"model_type": "llama"})
    adapter = write_adapter(tmp_path / "lora", factors({Q: (8, 8)}))
    code, said = planned(tmp_path / "base4", adapter, capsys)
    assert code == 3
    assert "name the unquantised model the adapter was trained on" in said


def test_tensors_under_foreign_names_are_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path / "lora", factors(SHAPES))
    odd = {f"transformer.{k}": v for k, v in factors(SHAPES).items()}
    save_file(odd, adapter / "adapter_model.safetensors")
    code, said = planned(base, adapter, capsys)
    assert code == 5
    assert f"{PREFIX}MODULE.lora_A.weight" in said


def test_a_pickle_is_never_opened(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path / "lora", factors(SHAPES))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    code, said = planned(base, adapter, capsys)
    assert code == 5
    assert "only a pickle, which is never opened" in said


def test_a_file_that_is_cut_short_is_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path / "lora", factors(SHAPES))
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    code, said = planned(base, adapter, capsys)
    assert code == 4
    assert "adapter_model.safetensors" in said


def test_an_adapter_alone_says_how_it_is_written(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path / "lora", factors(SHAPES))
    (adapter / "README.md").write_text("---\nbase_model: org/base\n---\n")
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        f"merge_method: linear\nmodels: [{{model: {adapter}}}]\nparameters: {{weight: 1}}"
    )
    assert main(["plan", str(recipe)]) == 5
    said = " ".join(capsys.readouterr().err.split())
    assert "write BASE+ADAPTER, with the model it was trained on in front: org/base+..." in said


def test_the_model_it_was_trained_on_is_compared(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(
        tmp_path / "lora", factors(SHAPES), base_model_name_or_path="org/Other-\x1b7B"
    )
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        f"merge_method: linear\nmodels: [{{model: '{base}+{adapter}'}}]\nparameters: {{weight: 1}}"
    )
    assert main(["plan", str(recipe)]) == 0
    said = capsys.readouterr()
    assert r"its adapter was trained on org/Other-\x1b7B, and is put on base" in " ".join(
        (said.out + said.err).split()
    )
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "/somewhere/else/Base/"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert main(["plan", str(recipe)]) == 0
    said = capsys.readouterr()
    assert "was trained on" not in said.out + said.err
