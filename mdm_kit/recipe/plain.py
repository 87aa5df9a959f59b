"""A setting as plain JSON, for manifests and cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mdm_kit.recipe.model import Filters, Gradient, Setting
from mdm_kit.recipe.scalars import WrongValue

if TYPE_CHECKING:
    from mdm_kit.recipe.scalars import Scalar


def plain_setting(setting: Setting) -> Any:
    """Return a setting as numbers, booleans, texts, lists and mappings, as YAML 1.2 reads it."""
    if isinstance(setting, Gradient):
        return [_plain_scalar(v) for v in setting.values]
    if isinstance(setting, Filters):
        return [{"filter": e.filter, "value": plain_setting(e.value)} for e in setting.entries]
    return _plain_scalar(setting)


def _plain_scalar(scalar: Scalar) -> float | bool | str:
    if scalar.plain and scalar.text.lower() in ("true", "false"):
        return scalar.as_boolean()
    try:
        return scalar.as_number() if scalar.plain else scalar.text
    except WrongValue:
        return scalar.text
