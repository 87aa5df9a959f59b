"""Side files: what travels with a model is on a list; everything else stays behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mdm_kit.errors import IntegrityError, UsageError
from mdm_kit.sources import FolderSource, is_side_file
from mdm_kit.sources.side_files import MAX_SIDE_FILE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

TRAVELS = [
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "additional_chat_templates/tool_use.jinja",
    "chat_template.jinja",
    "config.json",
    "modules.json",
    "qwen.tiktoken",
    "tokenizer.model",
]
STAYS = [
    ".env",
    "1_Pooling/other.json",
    "1_Pooling/sub/config.json",
    "LICENSE.py",
    "README.md",
    "additional_chat_templates/evil.py",
    "additional_chat_templates/sub/a.jinja",
    "config.json.bak",
    "configuration_evil.py",
    "modeling_evil.py",
    "model.safetensors",
    "other_folder/config.json",
    "tokenizer.py",
    "training_args.bin",
]
HOSTILE = [
    "../config.json",
    "1_Pooling/../config.json",
    "additional_chat_templates/../x.jinja",
    "/config.json",
    "config.json\n",
    "\u0661_Pooling/config.json",
    "a/b.tiktoken",
    ".tiktoken",
    "..tiktoken",
    "CONFIG.JSON",
    "",
]


def test_only_the_list_is_seen(tmp_path: Path) -> None:
    for name in TRAVELS + STAYS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    source = FolderSource("m", tmp_path)
    assert source.side_files() == tuple(TRAVELS)
    for name in TRAVELS:
        assert source.side_file(name) == name.encode()


@pytest.mark.parametrize("name", STAYS + HOSTILE)
def test_off_the_list_is_refused(tmp_path: Path, name: str) -> None:
    assert not is_side_file(name)
    with pytest.raises(UsageError, match="is not a side file"):
        FolderSource("m", tmp_path).side_file(name)


def test_a_licence_is_read_by_its_name_and_not_listed(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("do as you like")
    source = FolderSource("m", tmp_path)
    assert source.side_files() == ()
    assert source.side_file("LICENSE") == b"do as you like"
    assert source.side_file("NOTICE") is None


def test_absent_is_none(tmp_path: Path) -> None:
    assert FolderSource("m", tmp_path).side_file("config.json") is None


def test_too_large(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(MAX_SIDE_FILE_BYTES + 1)
    with pytest.raises(IntegrityError, match="at most 67,108,864 bytes, found more"):
        FolderSource("m", tmp_path).side_file("tokenizer.json")


def test_needs_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert FolderSource("m", tmp_path).side_file("config.json") == b"{}"
