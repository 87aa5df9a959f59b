"""What a merge method is: a docstring, a typed parameter model, a pure function.

A method file reads like its paper. `base` is a unit system: where it is the `origin` the method
works on what each model changed, and the executor subtracts and re-adds the base in one place;
elsewhere it works on whole weights.

A *fold* method gives one coefficient per model and leaves the sum to the executor, which needs no
tensor of its own for it. Its coefficients may depend on inner products of the deltas: then it says
so by a `solve` function, which turns the summed Gram matrix of a group of tensors into an
orthogonal basis, once per group, from scalars alone.

A *rule* method says for each tensor, from its parameters and shape, what is kept of the models and
how it is joined (`mdm_kit.methods.rules`); the executor reads the tensor as often as that takes.

A *matrix* method is a rule method that is told which linear maps a tensor holds in place of its
shape, and takes in one model after the other: what it has of the earlier ones is a sum of fixed
size, which a merge may keep and go on from.

A *joint* method is told the linear maps, too, and takes in all models' changes to one of them at
once; nothing of that is kept. Where a tensor holds no linear map it is a fold.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Required, TypedDict, TypeVar, Unpack, dataclass_transform

from mdm_kit.maths.matrix import Matrix
from mdm_kit.maths.orthogonal import Basis, Gram
from mdm_kit.methods.rules import Joining, Rule, SumRule

T = TypeVar("T")
PerModel = tuple[T, ...]
"""A parameter with one value per model, in the order of the recipe."""

BaseRole = Literal["ignored", "counted", "first", "origin", "optional"]
"""What the recipe's `base_model` is to a method: nothing but the giver of names and config; one
more model, behind the others; the first of the models; what every model is compared with; or that
where there is one, and no more than nothing where there is none."""
Undo = Literal["rebuild", "exact", "subtract"]
Patterns = tuple[str, ...]
"""Names of tensors, with * and ?, or parts of names."""
Scalar = float | bool | str | Patterns | None

_REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """One parameter of a method: its name in a recipe, its type and its bounds.

    `type` is the scalar type a recipe's value is read as; a text is one of `choices`, which may
    stand in place of a number, too. A `constant` has one value for the whole merge, and no gradient
    or filter; a `listed` one is a list of texts. `inert` is the reason why a value
    other than the default changes nothing here, for keys other tools' recipes carry. `example` is
    a value that suits most models, where none does that could be guessed.
    """

    name: str
    field: str
    type: type[float | bool | str]
    per_model: bool
    required: bool
    default: Scalar
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    constant: bool
    listed: bool
    help: str
    inert: str
    example: float | None


def _specified(default: Any, **metadata: Any) -> Any:
    metadata = {
        "minimum": None,
        "maximum": None,
        "choices": (),
        "constant": False,
        "listed": False,
        "inert": "",
        "example": None,
        **metadata,
    }
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
    example: float | None = None,
) -> Any:
    """Declare a parameter the whole merge has one value of (per tensor, where it is a gradient)."""
    return _specified(
        default, help=help, minimum=minimum, maximum=maximum, inert=inert, example=example
    )


def choice(default: str, *, options: tuple[str, ...], help: str) -> Any:  # noqa: A002
    """Declare a word the whole merge has one of, the same for every tensor."""
    return _specified(default, help=help, choices=options, constant=True)


def number_or(
    default: str,
    *,
    help: str,  # noqa: A002
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """Declare a number, the same for every tensor, or the word that stands for another rule."""
    return _specified(
        default, help=help, choices=(default,), constant=True, minimum=minimum, maximum=maximum
    )


def patterns(default: Patterns, *, help: str) -> Any:  # noqa: A002
    """Declare a list of tensor names or parts of names."""
    return _specified(default, help=help, constant=True, listed=True)


@dataclass_transform(
    frozen_default=True, field_specifiers=(per_model, shared, choice, number_or, patterns)
)
class MethodParams:
    """Base of every method's parameters; subclasses are frozen dataclasses.

    A field's name is the recipe's, with an underscore behind it where Python keeps the word for
    itself (`lambda_` is `lambda`).
    """

    absent: ClassVar[Mapping[str, str]] = {}
    """Parameters that other methods have and this one does not, and why."""

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

    def fine(self) -> bool:
        """Whether these values need float64 throughout: deltas, inner products and sum."""
        return False


class NoParams(MethodParams):
    """Nothing to say: a node whose weights are given."""


def _spec(field: dataclasses.Field[Any], hint: Any) -> ParamSpec:
    is_tuple, listed = typing.get_origin(hint) is tuple, field.metadata["listed"]
    per_model_field = is_tuple and not listed
    scalar = typing.get_args(hint)[0] if is_tuple else hint
    if isinstance(scalar, types.UnionType):  # a number that may be left out, or a word for it
        (scalar,) = (a for a in typing.get_args(scalar) if a is float)
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


Coefficients = Callable[..., Sequence[float]]
RuleOf = Callable[[Any, tuple[int, ...]], Rule]
SumRuleOf = Callable[[Any, tuple[Matrix, ...]], SumRule]
JoiningOf = Callable[[Any, tuple[Matrix, ...]], Joining]
Others = Callable[[Any, int], Sequence[float]]
Solve = Callable[[Gram, Any], Basis]


@dataclass(frozen=True, slots=True)
class Method:
    """A registered merge method: a fold, a rule, or a rule on matrices, of sums or joint.

    A fold's `coefficients(params)` returns one factor per model. Where there is a `solve`, it is
    `coefficients(params, basis)`, with `basis = solve(gram, params)` from the Gram matrix of all
    tensors that share a group. `rule(params, shape)` says what to do with a tensor of that shape,
    `matrix_rule(params, matrices)` what with one that holds these linear maps, or none: what it
    then has of the models is a sum a merge can go on from, if it `keeps_sums`; if not, it is not
    asked of a tensor without a map, for which `others(params, n)` gives the factors of n models.
    `order_free` promises that permuting the models (with their parameters) changes the result by
    rounding alone. `dialect` is true where mergekit knows the method by the same name. `undo` says
    how one of the models can be taken out: by `rebuild` wherever there may be several; by `exact`
    and `subtract` where the merge is the base plus a weighted sum of deltas, with `weight` as
    coefficients. The numbers of models do not count a base the method takes by itself.
    """

    name: str
    params: type[MethodParams]
    base: BaseRole
    order_free: bool
    doc: str
    min_models: int = 1
    max_models: int | None = None
    dialect: bool = False
    undo: tuple[Undo, ...] = ("rebuild",)
    coefficients: Coefficients | None = None
    solve: Solve | None = None
    rule: RuleOf | None = None
    matrix_rule: SumRuleOf | JoiningOf | None = None
    others: Others | None = None
    keeps_sums: bool = False

    @property
    def title(self) -> str:
        """The first line of the method file's docstring."""
        return self.doc.strip().splitlines()[0]

    @property
    def needs_base(self) -> bool:
        """Whether a recipe must name a base model."""
        return self.base in ("first", "origin")

    def takes_deltas(self, *, with_base: bool) -> bool:
        """Whether the method works on changes against a base, in a recipe with or without one."""
        return self.base == "origin" or (self.base == "optional" and with_base)


class Facts(TypedDict, total=False):
    """What a method file says of its method besides the function; see `Method`."""

    params: Required[type[MethodParams]]
    base: Required[BaseRole]
    order_free: Required[bool]
    min_models: int
    max_models: int | None
    dialect: bool
    undo: tuple[Undo, ...]


def fold_method(
    name: str, *, solve: Solve | None = None, **facts: Unpack[Facts]
) -> Callable[[Coefficients], Method]:
    """Turn a function that gives coefficients into the `Method` the folder's discovery finds."""

    def register(coefficients: Coefficients) -> Method:
        doc = coefficients.__globals__["__doc__"]
        return Method(name, doc=doc, coefficients=coefficients, solve=solve, **facts)

    return register


def rule_method(name: str, **facts: Unpack[Facts]) -> Callable[[RuleOf], Method]:
    """Turn a function that gives a tensor's rule into the `Method` the discovery finds."""

    def register(rule: RuleOf) -> Method:
        return Method(name, doc=rule.__globals__["__doc__"], rule=rule, **facts)

    return register


def matrix_method(name: str, **facts: Unpack[Facts]) -> Callable[[SumRuleOf], Method]:
    """Turn a function that gives the rule of a tensor's matrices into the `Method`."""

    def register(matrix_rule: SumRuleOf) -> Method:
        doc = matrix_rule.__globals__["__doc__"]
        return Method(name, doc=doc, matrix_rule=matrix_rule, keeps_sums=True, **facts)

    return register


def joint_method(
    name: str, *, others: Others, **facts: Unpack[Facts]
) -> Callable[[JoiningOf], Method]:
    """Turn a function that says how all models' changes to a matrix are joined into the `Method`.

    `others` gives the factors of the changes to tensors without a matrix.
    """

    def register(matrix_rule: JoiningOf) -> Method:
        doc = matrix_rule.__globals__["__doc__"]
        return Method(name, doc=doc, matrix_rule=matrix_rule, others=others, **facts)

    return register
