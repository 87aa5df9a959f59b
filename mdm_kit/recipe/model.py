"""The recipe as a value: what was asked for, every part of it with its place in the text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from mdm_kit.recipe.scalars import Scalar

if TYPE_CHECKING:
    from mdm_kit.recipe.references import LocatedRef
    from mdm_kit.words import DType, ModelRef, Place


@dataclass(frozen=True, slots=True)
class Gradient:
    """A list of scalars: values along the layers, or a plain list where a method wants one."""

    values: tuple[Scalar, ...]
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Filtered:
    """A value for the tensors whose name holds `filter`; None and `*` mean every tensor."""

    filter: str | None
    value: Scalar | Gradient
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Filters:
    """Filtered values in order; the first one that fits a tensor's name wins."""

    entries: tuple[Filtered, ...]
    place: Place = field(compare=False)


Setting: TypeAlias = Scalar | Gradient | Filters
"""What stands behind a parameter's name, not yet converted to any type."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named setting; `place` is the name's."""

    name: str
    setting: Setting
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One of the models to merge, under the name it has everywhere from here on.

    `named` says whether the recipe gives that name or it was made from the reference;
    `layer_range` is the range of layers a slice names, the second one not included.
    """

    located: LocatedRef
    name: str
    parameters: tuple[Parameter, ...]
    place: Place = field(compare=False)
    named: bool = False
    layer_range: tuple[int, int] | None = None

    @property
    def ref(self) -> ModelRef:
        """The model itself."""
        return self.located.ref

    def setting(self, name: str) -> Setting | None:
        """Return this model's own setting of a parameter, or None."""
        return find_setting(self.parameters, name)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe whose syntax has been read; whether method and parameters exist is not judged.

    `text` is the source without a byte order mark; spans and places count its characters.
    `dialect` is true when mergekit would read the same file. `ledger` is what to keep for taking
    models out again: `references`, `deltas`, `deltas+base` or `none`. `places` holds the place of
    each top-level value.
    """

    text: str
    merge_method: Scalar
    models: tuple[ModelEntry, ...]
    base_model: LocatedRef | None = None
    parameters: tuple[Parameter, ...] = ()
    dtype: DType | None = None
    out_dtype: DType | None = None
    seed: int = 0
    name: str | None = None
    license: str | None = None
    ledger: str = "references"
    dialect: bool = True
    places: tuple[tuple[str, Place], ...] = ()

    @property
    def digest(self) -> str:
        """The sha256 of the text as UTF-8, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def references(self) -> tuple[LocatedRef, ...]:
        """Every model reference of the recipe: the base, if there is one, then the models."""
        base = () if self.base_model is None else (self.base_model,)
        return (*base, *(entry.located for entry in self.models))

    def setting(self, name: str) -> Setting | None:
        """Return the recipe's own setting of a parameter, or None."""
        return find_setting(self.parameters, name)

    def place_of(self, key: str) -> Place | None:
        """Return where the value of a top-level key stands, or None if the key is absent."""
        return dict(self.places).get(key)


def find_setting(parameters: tuple[Parameter, ...], name: str) -> Setting | None:
    """Return the setting of the parameter called `name`, or None."""
    return next((p.setting for p in parameters if p.name == name), None)
