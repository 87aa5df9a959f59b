"""Names of repositories and branches that cannot be are known before anybody is asked."""

from __future__ import annotations

import pytest

import mdm_kit
from mdm_kit.api import push_of
from mdm_kit.errors import UsageError
from mdm_kit.publish.repository import check_names
from mdm_kit.recipe import Push, read_recipe_text

RECIPE = "merge_method: linear\nmodels: [{model: a/b}]\n"


@pytest.mark.parametrize(
    "repo", ["x", "a/b/c", "datasets/a/b", "spaces/a/b", "", "a/b.git", "a b/c"]
)
def test_repositories_that_cannot_be(repo: str) -> None:
    with pytest.raises(UsageError, match="owner/name"):
        check_names(Push(repo))


@pytest.mark.parametrize("revision", ["a..b", "-x", "x ", "0" * 40, "a\nb"])
def test_branches_that_cannot_be(revision: str) -> None:
    with pytest.raises(UsageError, match="branch"):
        check_names(Push("a/b", revision=revision))


@pytest.mark.parametrize("message", ["a\nb", "x" * 501, "\x1b[31m"])
def test_titles_that_are_no_line(message: str) -> None:
    with pytest.raises(UsageError, match="the commit's title"):
        check_names(Push("a/b", message=message))


def test_asked_beats_the_recipe_and_the_rest_is_the_recipes() -> None:
    text = RECIPE + "push: {repo: you/x, private: no, revision: v1, message: Hi}\n"
    recipe = read_recipe_text(text).require()
    assert recipe.push == Push("you/x", False, "v1", "Hi")
    assert push_of(recipe, True) == recipe.push
    assert push_of(recipe, "you/y") == Push("you/y", False, "v1", "Hi")
    assert push_of(recipe, Push("you/z")) == Push("you/z")
    with pytest.raises(UsageError, match="push:"):
        push_of(read_recipe_text(RECIPE).require(), True)


@pytest.mark.parametrize(
    "settings",
    ["x", "{}", "{private: true}", "{repo: }", "{repo: [a]}", "{repo: a/b, private: perhaps}",
     "{repo: a/b, tag: v1}", '{repo: a/b, message: "a\\tb"}', "{repo: a/b, revision: {}}"],
)  # fmt: skip
def test_settings_that_are_wrong_are_told_with_their_place(settings: str) -> None:
    parsed = read_recipe_text(f"{RECIPE}push: {settings}\n")
    assert not parsed.ok
    assert all(f.place is not None and f.place.line == 3 for f in parsed.findings)


def test_no_local_without_a_push_is_an_error() -> None:
    with pytest.raises(UsageError, match="push"):
        mdm_kit.merge(RECIPE, "out", no_local=True)
