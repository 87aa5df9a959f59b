"""The located tree: what is read, where it stands, what aliases and merge keys do."""

from __future__ import annotations

import pytest
import yaml

from mdm_kit.recipe.collector import Collector
from mdm_kit.recipe.decoding import decode
from mdm_kit.recipe.scalars import Scalar
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, SequenceNode
from mdm_kit.recipe.yaml_reader import read_documents
from mdm_kit.words import Place


def read(text: str) -> Node:
    found = Collector()
    (root,) = read_documents(text, found)
    assert found.done() == ()
    return root


def get(node: Node, *path: str | int) -> Node:
    for step in path:
        if isinstance(node, MappingNode):
            node = next(value for key, value in node.entries if key.text == step)
        else:
            assert isinstance(node, SequenceNode)
            assert isinstance(step, int)
            node = node.items[step]
    return node


def plain(node: Node) -> object:
    """Return the tree as dicts, lists and texts."""
    if isinstance(node, MappingNode):
        return {key.text: plain(value) for key, value in node.entries}
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    return node.text


def source(text: str, *path: str | int) -> str:
    """Return what the span of a node covers."""
    node = get(read(text), *path)
    return text[slice(*node.span)]


def test_scalars_keep_their_text_and_style() -> None:
    root = read("a: no\nb: 'no'\nc: \"x\\ty\"\nd: 012\ne:\n")
    assert plain(root) == {"a": "no", "b": "no", "c": "x\ty", "d": "012", "e": ""}
    styles = {key.text: value.plain for key, value in root.entries}
    assert styles == {"a": True, "b": False, "c": False, "d": True, "e": True}


def test_places_count_characters_not_bytes() -> None:
    root = read("é: [😀, x]\n")
    assert get(root, "é").place == Place(1, 4, 6)
    assert get(root, "é", 0).place == Place(1, 5, 1)
    assert get(root, "é", 1).place == Place(1, 8, 1)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_places_under_any_line_break(line_break: str) -> None:
    text = f"a: 1{line_break}b:{line_break}  - c{line_break}"
    assert get(read(text), "b", 0).place == Place(3, 5, 1)
    assert source(text, "b") == "- c"


def test_spans_of_scalars() -> None:
    assert source("a: org/x # why\n", "a") == "org/x"
    assert source("a: 'q'\n", "a") == "'q'"
    assert source("a: |\n  text\n\n\nb: 1\n", "a") == "|\n  text"
    assert source("a:\n  two\n  lines\nb: 1", "a") == "two\n  lines"
    assert source("a:\nb: 1\n", "a") == ""


def test_spans_of_collections_end_with_their_last_value() -> None:
    block = "m:\n  path: x # c\n  revision: y   # d\n\n# e\nn: 1\n"
    assert source(block, "m") == "path: x # c\n  revision: y"
    assert source("m: {path: x, revision: y } # c\n", "m") == "{path: x, revision: y }"
    assert source("m:\n  - a\n  - [b]\n\nn: 1", "m") == "- a\n  - [b]"
    assert source("m:\n  path: x\n  revision:\nn: 1", "m") == "path: x\n  revision:"


def test_spans_leave_anchors_out() -> None:
    assert source("a: &n org/x\n", "a") == "org/x"
    assert source("a: &n {b: c}\n", "a") == "{b: c}"
    text = "a: &n # why\n  # more\n  b: c\n"
    assert source(text, "a") == "b: c"
    assert get(read(text), "a").place == Place(3, 3, 4)


def test_an_alias_stands_where_it_is_used_and_points_to_where_it_is_written() -> None:
    text = "a: &n [x, y]\nb: *n\n"
    root = read(text)
    assert plain(get(root, "b")) == ["x", "y"]
    assert source(text, "b") == "*n"
    assert get(root, "b").place == Place(1, 7, 6)


def test_merge_keys_give_way_to_keys_that_are_written_out() -> None:
    root = read("a: &a {x: 1, y: 2}\nb: {y: 9, <<: *a, z: 3}\n")
    assert plain(get(root, "b")) == {"y": "9", "z": "3", "x": "1"}


def test_of_several_merged_mappings_the_earlier_wins() -> None:
    text = "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b, {y: 9, z: 9}]}\n"
    assert plain(get(read(text), "c")) == {"x": "1", "y": "2", "z": "9"}


def test_merged_mappings_merge_theirs_first() -> None:
    text = "a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b}\n"
    assert plain(get(read(text), "c")) == {"y": "2", "x": "1"}


def test_a_quoted_merge_key_is_a_key() -> None:
    assert plain(read("{'<<': x}")) == {"<<": "x"}


@pytest.mark.parametrize("value", ["3", "[1]", "[{a: b}, c]"])
def test_only_mappings_can_be_merged(value: str) -> None:
    found = Collector()
    read_documents(f"a: {{<<: {value}}}\n", found)
    assert ["'<<' takes a mapping" in f.message for f in found.done()] == [True]


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("a: 1\n\tb: 2\n", Place(2, 1), "tabs"),
        ("a: @x\n", Place(1, 4), "'@' needs quotes"),
        ("a: *\n", Place(1, 5), "'*' needs quotes"),
        ("a: b: c\n", Place(1, 5), "': '"),
        ("a: 1\n  b: 2\n", Place(2, 4), "indentation"),
        ("a: 'x\nb: 2\n", Place(1, 4), "never closed"),
    ],
)
def test_syntax_errors_have_a_place_and_a_hint(text: str, place: Place, hint: str) -> None:
    found = Collector()
    assert read_documents(text, found) == ()
    (finding,) = found.done()
    assert finding.message.startswith("this is not YAML: ")
    assert finding.place == place
    assert hint in finding.hint


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "   "])
def test_an_empty_file(text: str) -> None:
    found = Collector()
    assert read_documents(text, found) == ()
    assert [f.message for f in found.done()] == ["expected a recipe, found an empty file"]


def test_the_pure_python_parser_reads_the_same() -> None:
    text = (
        "%YAML 1.1\n---\nmerge_method: linear # c\nmodels:\n"
        "  - &m {model: org/a, parameters: {weight: [1, .5]}}\n"
        "  - <<: *m\n    model: 'org/b'\n    name: |\n      b\n\n"
        "  - model: &r\n      path: é\n      revision: x\nout: *r\n...\n"
    )
    (first,) = read_documents(text, Collector())
    (second,) = read_documents(text, Collector(), yaml.SafeLoader)
    assert first == second
    assert located(first) == located(second)


def located(node: Node | None) -> list[tuple[Place, tuple[int, int]]]:
    """Return places and spans of a tree, which equality leaves out."""
    if isinstance(node, MappingNode):
        inner = [located(part) for entry in node.entries for part in entry]
    elif isinstance(node, SequenceNode):
        inner = [located(item) for item in node.items]
    else:
        assert isinstance(node, Scalar)
        inner = []
    return [(node.place, node.span), *(pair for pairs in inner for pair in pairs)]


def test_byte_order_marks_are_dropped() -> None:
    found = Collector()
    assert decode(b"\xef\xbb\xbfa: 1", found) == ("a: 1", True)
    assert decode("\ufeffa: 1", found) == ("a: 1", True)
    assert found.done() == ()
