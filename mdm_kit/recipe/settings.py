"""Which value a parameter has for a tensor: levels, name filters and gradients over layers.

The rules are mergekit's. Levels are asked in order (a model's own parameters, then the recipe's)
and the first with a value wins. Of a level's filters the first that fits wins; if none fits, the
next level is asked. A gradient of n numbers is read at t in [0, 1], linearly between its anchors;
a gradient of anything else yields item floor(t * (n - 1)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from mdm_kit.recipe.model import Filters, Gradient, Setting
from mdm_kit.words import Finding, Kind, Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mdm_kit.recipe.scalars import Scalar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """One value or gradient for the tensors whose name holds `filter`; None means every tensor."""

    filter: str | None
    values: tuple[T, ...]
    numeric: bool


@dataclass(frozen=True, slots=True)
class CompiledSetting(Generic[T]):
    """The levels of one parameter, converted once; the first rule that fits a name wins.

    Because a level whose filters all miss falls through to the next, levels are nothing but the
    rules of one after those of the other.
    """

    rules: tuple[Rule[T], ...]

    @property
    def is_constant(self) -> bool:
        """Whether every tensor of every layer has the same value, or none has any."""
        rules = self.rules
        return not rules or (rules[0].filter is None and len(rules[0].values) == 1)

    def at(self, name: str, t: float) -> T | float | None:
        """Return the value for the tensor called `name` at `t` in [0, 1]; None if none is set.

        `t` is layer / (layers - 1), and 0 for tensors outside layers. Between the anchors of a
        gradient the value is a float, whatever the type of the anchors.
        """
        for rule in self.rules:
            if rule.filter is None or (name and rule.filter in name):
                values = rule.values
                if len(values) == 1:
                    return values[0]
                return _between(values, t) if rule.numeric else values[int(t * (len(values) - 1))]
        return None


def _between(values: tuple[T, ...], t: float) -> float:
    scaled = t * (len(values) - 1)
    i = int(scaled)
    low, high = values[i], values[min(i + 1, len(values) - 1)]
    share = scaled - i
    return (1 - share) * low + share * high  # type: ignore[operator]


def compile_setting(
    levels: Sequence[Setting | None], read: Callable[[Scalar], T], what: str = "the parameter"
) -> tuple[CompiledSetting[T], tuple[Finding, ...]]:
    """Return the levels, highest first, as one compiled setting, and what `read` refused.

    `read` turns a scalar into a value that is not None, or raises ValueError (`WrongValue` with a
    hint). What it refuses becomes an error at the scalar's place, and the rule is left out; a
    setting that came with findings must not be used. `what` begins each message.
    """
    rules: list[Rule[T]] = []
    findings: list[Finding] = []
    for pattern, scalars in _flat(levels):
        values: list[T] = []
        for scalar in scalars:
            try:
                values.append(read(scalar))
            except ValueError as problem:
                hint = getattr(problem, "hint", "")
                message = f"{what}: {problem}"
                findings.append(Finding(Level.ERROR, Kind.RECIPE, message, hint, scalar.place))
        if len(values) == len(scalars):
            rules.append(Rule(pattern, tuple(values), all(map(_is_number, values))))
    return CompiledSetting(_reachable(rules)), tuple(findings)


def resolve(
    levels: Sequence[Setting | None], tensor_name: str, t: float, read: Callable[[Scalar], T]
) -> T | float | None:
    """Return the value of one parameter for one tensor; None if no level sets it.

    Raises whatever `read` raises. For many tensors, compile the setting once instead.
    """
    for pattern, scalars in _flat(levels):
        if pattern is None or (tensor_name and pattern in tensor_name):
            values = tuple(map(read, scalars))
            rule = Rule(None, values, all(map(_is_number, values)))
            return CompiledSetting((rule,)).at(tensor_name, t)
    return None


def origin(levels: Sequence[Setting | None], tensor_name: str) -> tuple[int, str | None] | None:
    """Return which level sets a parameter for a tensor, and by which filter of its, if by one.

    None if no level does, so that the parameter has its default.
    """
    for i, setting in enumerate(levels):
        for pattern, _ in _flat([setting]):
            if pattern is None or (tensor_name and pattern in tensor_name):
                return i, pattern
    return None


def _flat(levels: Sequence[Setting | None]) -> Iterator[tuple[str | None, tuple[Scalar, ...]]]:
    """Yield filter and scalars of every rule of every level, `*` as None."""
    for setting in levels:
        if isinstance(setting, Filters):
            for entry in setting.entries:
                yield None if entry.filter == "*" else entry.filter, _scalars(entry.value)
        elif setting is not None:
            yield None, _scalars(setting)


def _scalars(value: Scalar | Gradient) -> tuple[Scalar, ...]:
    return value.values if isinstance(value, Gradient) else (value,)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _reachable(rules: list[Rule[T]]) -> tuple[Rule[T], ...]:
    """Return the rules up to the first that takes every tensor."""
    for i, rule in enumerate(rules):
        if rule.filter is None:
            return tuple(rules[: i + 1])
    return tuple(rules)
