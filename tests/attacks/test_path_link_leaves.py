"""Attack: a file of the model is a link to something outside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.sources import FolderSource

ONE = (2).to_bytes(8, "little") + b"{}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "model.safetensors").write_bytes(ONE)
    (tmp_path / "outside" / "config.json").write_text("{}")
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


@pytest.mark.parametrize("absolute", [True, False])
def test_weights_that_lie_elsewhere(model: Path, absolute: bool) -> None:
    target = model.parent / "outside" if absolute else Path("../outside")
    (model / "model.safetensors").symlink_to(target / "model.safetensors")
    with pytest.raises(IntegrityError, match="a link that leaves it"):
        FolderSource("victim", model).headers()


def test_side_file_that_lies_elsewhere(model: Path) -> None:
    (model / "config.json").symlink_to("../outside/config.json")
    with pytest.raises(IntegrityError, match=r"config\.json.*a link that leaves it"):
        FolderSource("victim", model).side_file("config.json")


def test_template_folder_that_lies_elsewhere(model: Path) -> None:
    (model.parent / "outside" / "tool.jinja").write_text("x")
    (model / "additional_chat_templates").symlink_to("../outside")
    with pytest.raises(IntegrityError, match="a link that leaves it"):
        FolderSource("victim", model).side_file("additional_chat_templates/tool.jinja")


def test_sibling_whose_name_begins_alike(model: Path) -> None:
    """`model-2` begins with `model`, and is not inside it."""
    (model.parent / "model-2").mkdir()
    (model.parent / "model-2" / "model.safetensors").write_bytes(ONE)
    (model / "model.safetensors").symlink_to("../model-2/model.safetensors")
    with pytest.raises(IntegrityError, match="a link that leaves it"):
        FolderSource("victim", model).headers()


def test_link_in_a_circle_is_no_file(model: Path) -> None:
    (model / "model.safetensors").symlink_to("model.safetensors")
    with pytest.raises(SourceError, match="found no weights"):
        FolderSource("victim", model).headers()


def test_link_within_the_model_is_followed(model: Path) -> None:
    (model / "weights").mkdir()
    (model / "weights" / "real").write_bytes(ONE)
    (model / "model.safetensors").symlink_to("weights/real")
    assert FolderSource("victim", model).headers().tensors == {}


def test_the_folder_itself_may_be_a_link(model: Path) -> None:
    (model / "model.safetensors").write_bytes(ONE)
    (model.parent / "alias").symlink_to("model")
    assert FolderSource("victim", model.parent / "alias").headers().tensors == {}


def test_no_message_holds_the_path(model: Path) -> None:
    (model / "model.safetensors").symlink_to("../outside/model.safetensors")
    with pytest.raises(IntegrityError) as caught:
        FolderSource("victim", model).headers()
    assert str(model) not in str(caught.value)
