"""The safe join: where a name leads, and that no name leads elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdm_kit.errors import IntegrityError
from mdm_kit.sources.safe_path import inside, plain_name

if TYPE_CHECKING:
    from pathlib import Path


def test_parts_are_joined(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    assert inside("m", root, "a.json") == root / "a.json"
    assert inside("m", root, "1_Pooling/config.json") == root / "1_Pooling" / "config.json"


@pytest.mark.parametrize("name", ["", "/", "a/", "/a", "a//b", "a/../b", "./a", "a/nul"])
def test_each_part_must_be_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(IntegrityError, match="expected a plain file name"):
        inside("m", tmp_path.resolve(), name)


def test_link_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(IntegrityError, match="leads in a circle"):
        inside("m", tmp_path.resolve(), "a")


@given(st.text(st.sampled_from("a./\\:~ \0\n\u202enulNUL"), max_size=8))
def test_a_plain_name_stays_in_its_folder_on_every_system(name: str) -> None:
    from pathlib import PurePosixPath, PureWindowsPath

    try:
        plain_name("m", name)
    except IntegrityError:
        return
    for kind, root in ((PurePosixPath, "/model"), (PureWindowsPath, "C:\\model")):
        path = kind(root) / name
        assert path.parent == kind(root)
        assert path.name == name
