"""What a merge method is: a docstring, a typed parameter model, a pure function over tensors.

A method file reads like its paper. `space` is a unit system: a `weight` method sees the models'
weights, a `delta` method sees what each model changed, and the executor subtracts and re-adds the
base in one place. `tiles` says whether a wide tensor may be cut before the method sees it.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
PerModel = tuple[T, ...]
"""A parameter with one value per model, in the order of the recipe."""

Space = Literal["weight", "delta"]
Tiles = Literal["elementwise", "rows", "whole"]
Scalar = float | bool | str | None

_REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """One parameter of a method: its name in a recipe, its type and its bounds.

    `type` is the scalar type a recipe's value is read as. `inert` is the reason why a value other
    than the default changes nothing here, for keys other tools' recipes carry.
    """

    name: str
    field: str
    type: type[float | bool | str]
    per_model: bool
    required: bool
    default: Scalar
    minimum: float | None
    maximum: float | None
    help: str
    inert: str


def _specified(default: Any, **metadata: Any) -> Any:
    if default is _REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def per_model(
    default: Any = _REQUIRED,
    *,
    help: str,  # noqa: A002
    minimum: float | None = None,
    maximum: float | None = None,
    inert: str = "",
) -> Any:
    """Declare a parameter each model has its own value of; `default` stands for every model."""
    default = default if default is _REQUIRED else (default,)
    return _specified(default, help=help, minimum=minimum, maximum=maximum, inert=inert)


def shared(
    default: Any = _REQUIRED,
    *,
    help: str,  # noqa: A002
    minimum: float | None = None,
    maximum: float | None = None,
    inert: str = "",
) -> Any:
    """Declare a parameter the whole merge has one value of (per tensor, where it is a gradient)."""
    return _specified(default, help=help, minimum=minimum, maximum=maximum, inert=inert)


@dataclass_transform(frozen_default=True, field_specifiers=(per_model, shared))
class MethodParams:
    """Base of every method's parameters; subclasses are frozen dataclasses.

    A field's name is the recipe's, with an underscore behind it where Python keeps the word for
    itself (`lambda_` is `lambda`).
    """

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True)(cls)

    @classmethod
    def specs(cls) -> tuple[ParamSpec, ...]:
        """Return the parameters in the order they are declared."""
        hints = typing.get_type_hints(cls)
        return tuple(_spec(f, hints[f.name]) for f in dataclasses.fields(cls))  # type: ignore[arg-type]

    def problem(self) -> str:
        """Return why these values cannot be merged with, or an empty string.

        Asked once per distinct set of values while planning, so that what no arithmetic could do
        (weights that sum to zero) is said before a byte is read.
        """
        return ""


def _spec(field: dataclasses.Field[Any], hint: Any) -> ParamSpec:
    per_model_field = typing.get_origin(hint) is tuple
    scalar = typing.get_args(hint)[0] if per_model_field else hint
    if isinstance(scalar, types.UnionType):  # `float | None`: a number that may be left out
        (scalar,) = (a for a in typing.get_args(scalar) if a is not type(None))
    required = field.default is dataclasses.MISSING
    default: Any = None if required else field.default
    if per_model_field and not required:
        (default,) = default
    return ParamSpec(
        name=field.name.rstrip("_"),
        field=field.name,
        type=scalar,
        per_model=per_model_field,
        required=required,
        default=default,
        **field.metadata,
    )


Kernel = Callable[[Sequence["Tensor"], Any], "Tensor"]


@dataclass(frozen=True, slots=True)
class Method:
    """A registered merge method.

    `kernel(tensors, params)` takes the k inputs of one tensor or tile, all of one shape, dtype and
    device, and returns the merged one; it leaves its inputs alone. `order_free` promises that
    permuting the models (with their parameters) changes the result by rounding alone.
    `dialect` is true where mergekit knows the method by the same name.
    """

    name: str
    params: type[MethodParams]
    kernel: Kernel
    space: Space
    tiles: Tiles
    min_models: int
    max_models: int | None
    order_free: bool
    dialect: bool
    doc: str

    @property
    def title(self) -> str:
        """The first line of the method file's docstring."""
        return self.doc.strip().splitlines()[0]

    @property
    def needs_base(self) -> bool:
        """Whether the method works on changes against a base model."""
        return self.space == "delta"


def method(
    name: str,
    *,
    params: type[MethodParams],
    space: Space,
    tiles: Tiles,
    min_models: int = 1,
    max_models: int | None = None,
    order_free: bool,
    dialect: bool = False,
) -> Callable[[Kernel], Method]:
    """Turn a method file's function into the `Method` the folder's discovery finds."""

    def register(kernel: Kernel) -> Method:
        return Method(
            name=name,
            params=params,
            kernel=kernel,
            space=space,
            tiles=tiles,
            min_models=min_models,
            max_models=max_models,
            order_free=order_free,
            dialect=dialect,
            doc=kernel.__globals__["__doc__"],
        )

    return register
