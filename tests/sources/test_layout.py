"""Which files are the weights, for every way people lay out a model."""

from __future__ import annotations

import pytest

from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.sources.checkpoint import Layout, choose_layout

INDEX = "model.safetensors.index.json"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["config.json", "model.safetensors"], Layout(single="model.safetensors")),
        ([INDEX, *SHARDS], Layout(index=INDEX)),
        ([INDEX, "model.safetensors", *SHARDS], Layout(single="model.safetensors")),
        (["model.safetensors", "adapter_config.json"], Layout(single="model.safetensors")),
        (["model.safetensors", "pytorch_model.bin"], Layout(single="model.safetensors")),
        ([INDEX, *SHARDS, "consolidated.safetensors"], Layout(index=INDEX)),
        ([INDEX, *SHARDS, "mdm_ledger.safetensors"], Layout(index=INDEX)),
        (["model.fp16.safetensors"], Layout(single="model.fp16.safetensors")),
        (
            ["diffusion_pytorch_model.safetensors"],
            Layout(single="diffusion_pytorch_model.safetensors"),
        ),
        (
            ["model-00001-of-00001.safetensors"],
            Layout(single="model-00001-of-00001.safetensors"),
        ),
        (["a.safetensors.index.json", "a-1.safetensors"], Layout(index="a.safetensors.index.json")),
    ],
)
def test_chosen(names: list[str], layout: Layout) -> None:
    assert choose_layout("m", names) == layout
    assert choose_layout("m", reversed(names)) == layout


@pytest.mark.parametrize(
    "names",
    [
        SHARDS,
        SHARDS[:1],
        ["a.safetensors", "b.safetensors"],
        ["a.safetensors", "b.safetensors", "a.safetensors.index.json", "b.safetensors.index.json"],
    ],
)
def test_shards_without_their_index(names: list[str]) -> None:
    with pytest.raises(IntegrityError, match="only known from an index"):
        choose_layout("m", names)


@pytest.mark.parametrize(
    "names",
    [["adapter_config.json", "adapter_model.safetensors"], ["adapter_config.json", "a.bin"]],
)
def test_adapter(names: list[str]) -> None:
    with pytest.raises(SourceError, match=r"found a LoRA adapter.*write BASE\+ADAPTER"):
        choose_layout("m", names)


def test_gguf() -> None:
    with pytest.raises(SourceError, match=r"only GGUF \('m-Q4\.gguf'\).*quantised.*unquantised"):
        choose_layout("m", ["m-Q4.gguf", "config.json"])


@pytest.mark.parametrize("names", [[], ["config.json"], ["training_args.bin", "README.md"]])
def test_no_weights(names: list[str]) -> None:
    with pytest.raises(SourceError, match="found no weights"):
        choose_layout("m", names)


@pytest.mark.parametrize("name", ["a\n.safetensors", "nul.safetensors", "a:b.safetensors"])
def test_lone_file_with_a_name_that_is_no_name(name: str) -> None:
    with pytest.raises(IntegrityError, match="expected a plain file name"):
        choose_layout("m", [name])
