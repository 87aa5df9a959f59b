"""Attack: bytes that are no text, and characters no text file should hold."""

from __future__ import annotations

import pytest

from mdm_kit.recipe import load_recipe_file, read_recipe_text
from mdm_kit.words import Place

HEAD = b"merge_method: linear\nmodels: [{model: org/a}]\n"


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82"]
)
def test_invalid_utf_8_has_a_position(bad: bytes) -> None:
    parsed = read_recipe_text(HEAD + "# é".encode() + bad + b"\n")
    assert parsed.recipe is None
    (finding,) = parsed.findings
    assert finding.message == (
        f"expected UTF-8 text, found the byte 0x{bad[0]:02x} at offset {len(HEAD) + 4}"
    )
    assert finding.place == Place(3, 4)
    assert parsed.render().count("\n") == 3


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_refused(encoding: str) -> None:
    parsed = read_recipe_text(HEAD.decode().encode(encoding))
    assert parsed.recipe is None
    assert len(parsed.findings) == 1


@pytest.mark.parametrize(
    ("character", "words"),
    [
        ("\x00", "a NUL stands in the text"),
        ("\x1b", "the character U+001B"),
        ("\x7f", "the character U+007F"),
        ("\x9b", "the character U+009B"),
        ("\x0c", "the character U+000C"),
        ("\ufffe", "the character U+FFFE"),
        ("\ud800", "the character U+D800"),
    ],
)
def test_forbidden_characters_are_one_clear_line(character: str, words: str) -> None:
    parsed = read_recipe_text(HEAD.decode() + f"# a{character}{character}\nx: [\n")
    assert parsed.recipe is None
    (finding,) = parsed.findings
    assert finding.message.startswith(words)
    assert finding.place == Place(3, 4)
    assert character not in parsed.render()


def test_escapes_cannot_bring_them_in_unseen() -> None:
    text = 'merge_method: "\\e[2J\\0"\nmodels: [{model: "a\\0b", name: "x\\e"}]\n"k\\e": 1\n'
    parsed = read_recipe_text(text)
    assert not parsed.ok
    assert "\x1b" not in parsed.render()
    assert "\x00" not in parsed.render()
    assert len(parsed.findings) == 3


def test_file_names_are_shown_without_harm(tmp_path) -> None:
    file = tmp_path / "a\x1b[2J\n.yml"
    file.write_bytes(b"x: 1\n")
    report = load_recipe_file(file).render()
    assert "\x1b" not in report
    assert report.startswith("a\\x1b[2J\\n.yml:1:1: error: ")
