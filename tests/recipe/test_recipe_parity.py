"""Settings resolve to the same values as in mergekit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_strategies import (
    PlainSetting,
    flow,
    numbers,
    positions,
    settings_of,
    tensor_names,
    texts,
)

from mdm_kit.recipe import Scalar, compile_setting, read_recipe_text, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # what mergekit's imports warn of is not ours
]

READERS: dict[type, Callable[[Scalar], Any]] = {
    float: lambda s: float(s.as_number()),
    bool: Scalar.as_boolean,
    str: Scalar.as_text,
}


def theirs(text: str, kind: type, name: str, t: float) -> Any:
    """Return mergekit's value: the model's own setting first, then the recipe's."""
    config = pytest.importorskip("mergekit.config")
    pydantic = pytest.importorskip("pydantic")
    recipe = config.MergeConfiguration.model_validate(yaml.safe_load(text))
    validate = pydantic.TypeAdapter(kind).validate_python
    for parameters in (recipe.models[0].parameters, recipe.parameters):
        if parameters and "p" in parameters:
            value = config.evaluate_setting(name, parameters["p"], t, validate=validate)
            if value is not None:
                return value
    return None


def check(kind: type, own: PlainSetting | None, shared: PlainSetting, name: str, t: float) -> None:
    inner = "" if own is None else f", parameters: {{p: {flow(own)}}}"
    text = (
        f"merge_method: linear\nmodels: [{{model: org/a{inner}}}]\n"
        f"parameters: {{p: {flow(shared)}}}\n"
    )
    recipe = read_recipe_text(text).require()
    levels = [recipe.models[0].setting("p"), recipe.setting("p")]
    compiled, findings = compile_setting(levels, READERS[kind])
    assert findings == ()
    expected = theirs(text, kind, name, t)
    assert compiled.at(name, t) == expected
    assert resolve(levels, name, t, READERS[kind]) == expected


def own_and_shared(values: Any) -> tuple[Any, Any]:
    return st.none() | settings_of(values), settings_of(values)


@given(*own_and_shared(numbers), tensor_names, positions)
@settings(deadline=None)
def test_numbers(own: Any, shared: Any, name: str, t: float) -> None:
    check(float, own, shared, name, t)


@given(*own_and_shared(st.booleans()), tensor_names, positions)
@settings(deadline=None)
def test_booleans(own: Any, shared: Any, name: str, t: float) -> None:
    check(bool, own, shared, name, t)


@given(*own_and_shared(texts), tensor_names, positions)
@settings(deadline=None)
def test_texts(own: Any, shared: Any, name: str, t: float) -> None:
    check(str, own, shared, name, t)
