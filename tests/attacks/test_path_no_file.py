"""Attack: a name of the model that is a pipe, a folder or a device: reading it hangs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.sources import FolderSource
from mdm_kit.sources.open_files import open_regular

if TYPE_CHECKING:
    from pathlib import Path


def test_named_pipe_as_weights(tmp_path: Path) -> None:
    """Opening a pipe waits for its writer, for ever."""
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(SourceError, match="found no weights"):
        FolderSource("victim", tmp_path).headers()


def test_named_pipe_as_side_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(IntegrityError, match="expected a regular file"):
        FolderSource("victim", tmp_path).side_file("config.json")


def test_pipe_that_takes_the_place_of_a_file(tmp_path: Path) -> None:
    """Between the listing and the opening."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "pipe")


def test_folder_as_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(SourceError, match="found no weights"):
        FolderSource("victim", tmp_path).headers()


def test_link_at_the_end_is_not_followed_when_opening(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError, match="symbolic link"):
        open_regular(tmp_path / "link")
