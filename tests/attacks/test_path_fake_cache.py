"""Attack: a folder dressed up as a Hugging Face cache to excuse its links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mdm_kit.errors import IntegrityError
from mdm_kit.sources import FolderSource

if TYPE_CHECKING:
    from pathlib import Path


ONE = (2).to_bytes(8, "little") + b"{}"


def snapshot(cache: Path, target: str) -> FolderSource:
    folder = cache / "models--a--b" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").symlink_to(target)
    return FolderSource("victim", folder)


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ONE)


def test_the_true_layout_is_followed(tmp_path: Path) -> None:
    put(tmp_path / "models--a--b" / "blobs" / "f00")
    assert snapshot(tmp_path, "../../blobs/f00").headers().tensors == {}


def test_blobs_shared_by_the_whole_cache_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "blobs" / "f0" / "f00")
    (tmp_path / "models--a--b" / "blobs").mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs" / "abc").symlink_to("../../blobs/f0/f00")
    assert snapshot(tmp_path, "../../blobs/abc").headers().tensors == {}


@pytest.mark.parametrize(
    "target", ["../../refs/f00", "../../../secret", "../../blobs/../../secret", "../other/f00"]
)
def test_any_other_target_is_refused(tmp_path: Path, target: str) -> None:
    for path in ("models--a--b/refs/f00", "secret", "models--a--b/snapshots/other/f00"):
        put(tmp_path / path)
    (tmp_path / "models--a--b" / "blobs").mkdir()
    with pytest.raises(IntegrityError, match="a link that leaves it"):
        snapshot(tmp_path, target).headers()


def test_blobs_that_are_themselves_a_link(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "f00")
    (tmp_path / "cache" / "models--a--b").mkdir(parents=True)
    (tmp_path / "cache" / "models--a--b" / "blobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="a link that leaves it"):
        snapshot(tmp_path / "cache", "../../blobs/f00").headers()


def test_blobs_without_the_rest_of_the_layout(tmp_path: Path) -> None:
    put(tmp_path / "blobs" / "f00")
    (tmp_path / "x" / "model").mkdir(parents=True)
    (tmp_path / "x" / "model" / "model.safetensors").symlink_to("../../blobs/f00")
    with pytest.raises(IntegrityError, match="a link that leaves it"):
        FolderSource("victim", tmp_path / "x" / "model").headers()
