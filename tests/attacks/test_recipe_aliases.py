"""Attack: aliases that unfold to billions of nodes, or into themselves."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from mdm_kit.recipe import Parsed, read_recipe_text
from mdm_kit.recipe.yaml_nodes import MAX_NODES


def refused(text: str, words: str) -> Parsed:
    parsed = read_recipe_text(text)
    assert parsed.recipe is None
    assert len([f for f in parsed.findings if words in f.message]) == 1, parsed.findings
    return parsed


def laughs(levels: int, width: int) -> str:
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def test_a_billion_laughs_are_counted_and_not_built() -> None:
    tracemalloc.start()
    start = time.process_time()
    refused(laughs(30, 10), f"expected at most {MAX_NODES:,} nodes")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    assert time.process_time() - start < 1.0


def test_laughs_in_mappings_and_merge_keys() -> None:
    lines = ["a0: &a0 {x: lol}"]
    for i in range(1, 25):
        keys = ", ".join(f"k{j}: *a{i - 1}" for j in range(10))
        lines.append(f"a{i}: &a{i} {{{keys}}}")
    refused("\n".join(lines), "nodes")
    lines = ["a0: &a0 {x: lol}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 16)]
    refused("\n".join(lines), "nodes")


def test_the_limit_counts_every_node_of_the_unfolded_document() -> None:
    # the root, the key a, its list and its items; then key and alias for b, c, ...
    def document(n_items: int, n_aliases: int) -> str:
        items = ",".join(["x"] * n_items)
        return f"a: &a [{items}]\n" + "".join(f"k{i}: *a\n" for i in range(n_aliases))

    n_items = 9_997  # 1 + 10 * (1 + 1 + 9_997) == 99_991
    fits = read_recipe_text(document(n_items, 9) + "x: [1, 2, 3, 4, 5, 6]\n")
    assert not [f for f in fits.findings if "nodes" in f.message]
    refused(document(n_items, 9) + "x: [1, 2, 3, 4, 5, 6, 7, 8]\n", "nodes")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]\n",
        "&a {b: *a}\n",
        "a: &a {<<: *a}\n",
        "a: &a [1, &b {c: [*a]}]\n",
        "a: &a {*a : 1}\n",
    ],
)
def test_aliases_inside_themselves(text: str) -> None:
    refused(text, "stands inside the value it names")


def test_aliases_without_an_anchor() -> None:
    parsed = refused("a: *nobody\nnobody: &nobody 1\n", "the alias *nobody has no anchor")
    assert parsed.findings[0].place is not None
    assert parsed.findings[0].place.column == 4


def test_an_anchor_set_twice() -> None:
    refused("a: &a 1\nb: &a 2\n", "the anchor &a is set twice")


def test_aliases_do_not_get_around_the_depth() -> None:
    nested = "[" * 20 + "]" * 20
    refused(f"a: &a {nested}\nb: {'[' * 15}*a{']' * 15}\n", "levels of nesting")


def test_a_megabyte_named_many_times_is_looked_at_once() -> None:
    """Searched before it is measured, a value used so often would take minutes."""
    big = "9" * 600_000
    documents = {
        "references": f"x: &a '{big}'\nmodels: [{','.join(['{model: *a}'] * 1000)}]\n",
        "names": f"x: &a '{big}'\nmodels: [{','.join(['{model: b, name: *a}'] * 1000)}]\n",
        "keys": f"x: &a {big}x\nmodels: [{','.join(['{*a : b}'] * 10_000)}]\n",
        "revisions": f"x: &a '{big}'\nmodels: "
        f"[{','.join(['{model: {path: o/m, revision: *a}}'] * 1000)}]\n",
        "filters": f"x: &a '{big}'\nmodels: []\nparameters: "
        f"{{w: [{','.join(['{filter: *a, vlue: *a}'] * 10_000)}]}}\n",
    }
    for name, text in documents.items():
        start = time.process_time()
        parsed = read_recipe_text(text)
        report = parsed.render()
        assert time.process_time() - start < 3.0, name
        assert not parsed.ok
        assert len(report) < 100_000
