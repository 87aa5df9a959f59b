"""Ids and revisions of the Hub: our rule against the client's own."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import example, given
from hypothesis import strategies as st

from mdm_kit.sources.hub_names import is_repo_id, is_revision


@given(st.text(st.sampled_from("aZ09-_./ é\n"), max_size=12))
@example("a" * 97)
@example("a" * 96 + "/" + "b" * 96)
@example("org/name.git")
def test_ids_are_those_the_client_accepts(text: str) -> None:
    try:
        validate_repo_id(text)
    except HFValidationError:
        accepted = False
    else:
        accepted = True
    assert is_repo_id(text) == accepted


@pytest.mark.parametrize(
    "revision", ["main", "v1.0", "refs/pr/12", "feature/x-y", "0" * 40, "d04e592", "a@b", "ünï"]
)
def test_revisions(revision: str) -> None:
    assert is_revision(revision)


@pytest.mark.parametrize(
    "revision",
    [
        "",
        "..",
        "a/../b",
        "/a",
        "a/",
        "a//b",
        ".a",
        "a/.b",
        "a.",
        "a.lock",
        "a.lock/b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "a@{1}",
        "a\x00",
        "a\x7f",
        "a\u202e",
        "-a",
    ],
)
def test_what_git_would_not_store(revision: str) -> None:
    assert not is_revision(revision)
