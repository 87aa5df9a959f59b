"""Each method's example is a recipe that reads without a finding and holds all there is to set."""

from __future__ import annotations

import pytest

from mdm_kit.api import check_recipe
from mdm_kit.authoring.docstrings import not_for, papers
from mdm_kit.authoring.examples import example, meaning
from mdm_kit.methods.contract import Method, MethodParams, PerModel, fold_method, per_model, shared
from mdm_kit.methods.registry import methods

EACH = pytest.mark.parametrize("method", methods().values(), ids=methods())
WITHOUT_A_PAGE = {"arcee_fusion", "nuslerp", "passthrough", "slerp"}


@EACH
def test_the_example_reads_without_a_finding(method: Method) -> None:
    parsed = check_recipe(example(method))
    assert not parsed.findings, parsed.render()
    recipe = parsed.require()
    assert recipe.merge_method.text == method.name
    for spec in method.params.specs():
        at_top = recipe.setting(spec.name) is not None
        in_models = [m.setting(spec.name) is not None for m in recipe.models]
        wanted = not spec.inert
        assert at_top is (wanted and not spec.per_model)
        assert in_models == [wanted and spec.per_model] * len(recipe.models)


@EACH
def test_the_docstring_says_where_not_to_use_it_and_what_to_read(method: Method) -> None:
    assert len(not_for(method.doc)) > len("models")
    assert bool(papers(method.doc)) is (method.name not in WITHOUT_A_PAGE)


def test_papers_and_pages_in_the_order_of_the_text() -> None:
    doc = "A, see goddard.blog/posts/a-b.\nB (arXiv:2306.01708, §3; arXiv:2306.01708), 1/d, e.g. 3."
    assert papers(doc) == ["https://goddard.blog/posts/a-b", "https://arxiv.org/abs/2306.01708"]


def test_where_not_to_use_it_ends_with_its_paragraph() -> None:
    assert not_for("A.\n\nWhere not to use: here,\nor there.\n\nMore.") == "here, or there."
    assert not_for("A.") == ""


class Odd(MethodParams):
    """Parameters a package from outside might have: none of the kinds has a default."""

    share: PerModel[float] = per_model(help="a share", minimum=2.0, maximum=4.0)
    at_least: float = shared(help="no less", minimum=3.0)
    at_most: float = shared(help="no more", maximum=-1.0)
    switch: bool = shared(help="on or off")


@fold_method("odd", params=Odd, base="origin", min_models=3, order_free=True)
def odd(p: Odd) -> list[float]:
    """Return nothing of use."""
    return list(p.share)


def test_what_has_no_default_gets_a_value_within_its_bounds() -> None:
    text = example(odd)
    assert text.count("share: 3.0") == 3
    assert "at_least: 3.0 # no less (3 or more)" in text
    assert "at_most: -1.0 # no more (at most -1)" in text
    assert "switch: true # on or off" in text
    assert meaning(Odd.specs()[0]) == "a share (2 to 4)"
