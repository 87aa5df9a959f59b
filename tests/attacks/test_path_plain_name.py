"""Attack: file names that are more than a name on POSIX or on Windows."""

from __future__ import annotations

import pytest

from mdm_kit.errors import IntegrityError
from mdm_kit.sources.safe_path import plain_name


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        ("..", "climbs out"),
        (".", "ends with a dot"),
        ("../a", "climbs out"),
        ("a/..", "climbs out"),
        ("a\\..\\b", "climbs out"),
        ("/a", "absolute"),
        ("\\a", "absolute"),
        ("\\\\host\\share\\a", "absolute"),
        ("\\\\?\\C:\\a", "absolute"),
        ("c:a", "absolute"),
        ("Z:\\a", "absolute"),
        ("ab:c", "holds ':'"),
        ("a/b", "holds '/'"),
        ("a\\b", r"holds '\\\\'"),
        ("a*", r"holds '\*'"),
        ("a?", r"holds '\?'"),
        ('a"', "holds"),
        ("a|b", "holds"),
        ("<a>", "holds"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x1b[0m", "control"),
        ("a\x7f", "control"),
        ("a\u202eb", "control or direction"),
        ("a\u2028b", "control or direction"),
        ("a\ud800", "control or direction"),
        ("a ", "ends with a dot or a space"),
        ("a.", "ends with a dot or a space"),
        ("CON", "device"),
        ("nul.safetensors", "device"),
        ("Com1.txt", "device"),
        ("LPT9", "device"),
        ("aux .json", "device"),
        ("com\u00b9.x", "device"),
        ("conin$", "device"),
        ("x" * 256, "longer than 255 bytes"),
        ("\u00e9" * 128, "longer than 255 bytes"),
    ],
)
def test_refused_on_every_system(name: str, fault: str) -> None:
    with pytest.raises(IntegrityError, match=f"expected a plain file name.*{fault}") as caught:
        plain_name("victim", name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        ".hidden",
        "conf.json",
        "console",
        "com10",
        "a..b",
        "modèle é.safetensors",
        "~a",
        "-rf",
        "x" * 255,
    ],
)
def test_plain_names_are_returned(name: str) -> None:
    assert plain_name("victim", name) == name
