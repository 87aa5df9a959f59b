"""Methods, starters and examples in mergekit's dialect say to mergekit 0.1.5 what they say here."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import yaml

from mdm_kit.authoring.examples import example
from mdm_kit.authoring.goals import GOALS
from mdm_kit.methods.contract import Method
from mdm_kit.methods.registry import methods
from mdm_kit.planner.parameters import INERT_EVERYWHERE
from mdm_kit.recipe import read_recipe_text

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # of its imports
    pytest.mark.skipif(
        not importlib.util.find_spec("mergekit"), reason="mergekit is not installed"
    ),
]
SHARED = {name: method for name, method in methods().items() if method.dialect}
WRITTEN = {f"goal {goal}": draft.text() for goal, draft in GOALS.items()}
WRITTEN |= {name: example(method) for name, method in SHARED.items()}


def in_dialect(text: str) -> bool:
    recipe = read_recipe_text(text).require()
    return recipe.dialect and all(d.merge_method.text in SHARED for d in (*recipe.stages, recipe))


IN_DIALECT = {what: text for what, text in WRITTEN.items() if in_dialect(text)}


def its_parameters(name: str) -> dict[str, tuple[bool, Any]]:
    """mergekit's parameters by name: whether each model has its own, and the default."""
    from mergekit.merge_methods import get

    spec = get(name).spec
    of_models = {p.name for p in spec.input_parameters}
    return {p.name: (p.name in of_models, p.default) for p in spec.parameters}


@pytest.mark.parametrize("method", SHARED.values(), ids=SHARED)
def test_parameters_and_their_defaults_are_its_own(method: Method) -> None:
    its = its_parameters(method.name)
    ours = {s.name: s for s in method.params.specs()}
    assert its.keys() - INERT_EVERYWHERE.keys() == ours.keys()
    for name, spec in ours.items():
        per_model, default = its[name]
        assert spec.per_model is per_model, name
        if isinstance(default, bool | int | float):
            assert (spec.required, spec.default) == (False, default), name


@pytest.mark.parametrize("text", IN_DIALECT.values(), ids=IN_DIALECT)
def test_mergekit_reads_it(text: str) -> None:
    from mergekit.config import MergeConfiguration

    for document in yaml.safe_load_all(text):
        if "---" in text:  # what mergekit-multi takes out first
            document.pop("name", None)
        one_is_read(MergeConfiguration.model_validate(document))


def one_is_read(config: Any) -> None:
    known = its_parameters(config.merge_method)
    assert set(config.parameters or {}) <= known.keys()
    of_models = {name for name, (per_model, _) in known.items() if per_model}
    named = config.models or [source for part in config.slices for source in part.sources]
    assert all(set(model.parameters or {}) <= of_models for model in named)
