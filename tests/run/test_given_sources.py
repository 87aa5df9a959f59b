"""Sources that were open before: whatever they call themselves, the recipe's references decide."""

from __future__ import annotations

import pytest
import torch
from families import read_model

import mdm_kit
from mdm_kit.sources import MemorySource

RECIPE = """
merge_method: task_arithmetic
base_model: org/base
models:
  - {model: org/a, parameters: {weight: 1.0}}
  - {model: org/b, parameters: {weight: 10.0}}
"""


def constant(name: str, value: float) -> MemorySource:
    return MemorySource.from_tensors(name, {"w": torch.full((4,), value)})


@pytest.mark.parametrize("names", [("b", "a", "base"), ("x", "y", "z"), ("same", "same", "same")])
def test_their_own_names_do_not_matter(tmp_path, names: tuple[str, str, str]) -> None:
    a, b, base = names
    given = {"org/a": constant(a, 1.0), "org/b": constant(b, 2.0), "org/base": constant(base, 0.0)}
    mdm_kit.merge(RECIPE, tmp_path / "out", sources=given)
    assert read_model(tmp_path / "out")["w"].tolist() == [21.0] * 4


def test_one_source_may_serve_two_references(tmp_path) -> None:
    one = constant("one", 1.0)
    given = {"org/a": one, "org/b": one, "org/base": constant("base", 0.0)}
    mdm_kit.merge(RECIPE, tmp_path / "out", sources=given)
    assert read_model(tmp_path / "out")["w"].tolist() == [11.0] * 4


def test_they_stay_open(tmp_path) -> None:
    given = {
        "org/a": constant("a", 1.0),
        "org/b": constant("b", 2.0),
        "org/base": constant("c", 0.0),
    }
    with mdm_kit.plan(RECIPE, sources=given) as plan:
        assert plan.exit_code == 0
    mdm_kit.merge(RECIPE, tmp_path / "one", sources=given)
    mdm_kit.merge(RECIPE, tmp_path / "two", sources=given)


def test_models_called_like_the_base_do_not_take_its_place(tmp_path) -> None:
    text = RECIPE.replace("org/a,", "org/a, name: base,").replace(
        "org/b,", "org/b, name: base_model,"
    )
    given = {
        "org/a": constant("a", 1.0),
        "org/b": constant("b", 2.0),
        "org/base": constant("c", 0.0),
    }
    mdm_kit.merge(text, tmp_path / "out", sources=given)
    assert read_model(tmp_path / "out")["w"].tolist() == [21.0] * 4


@pytest.mark.parametrize(
    "wrong", [{"threads": 0}, {"threads": -1}, {"shard_nbytes": 0}, {"restart": "x"}]
)
def test_arguments_that_mean_nothing_are_refused(tmp_path, wrong: dict[str, object]) -> None:
    given = {
        "org/a": constant("a", 1.0),
        "org/b": constant("b", 2.0),
        "org/base": constant("c", 0.0),
    }
    with pytest.raises(mdm_kit.errors.UsageError):
        mdm_kit.merge(RECIPE, tmp_path / "out", sources=given, **wrong)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())
