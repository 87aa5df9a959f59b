"""Which part of a larger model a model is, by names and shapes alone.

The language part of a vision-language model has the names of the text model it was made from behind
another prefix: `model.layers.0...` is `language_model.model.layers.0...` there. Which prefix stands
for which is found from the names; a stack of layers that fits two towers alike fits neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mdm_kit.planner.patterns import layer_position

Shapes = Mapping[str, tuple[int, ...]]

MOST_RULES = 12
"""Prefixes two models may differ by. A vision-language model has about four parts."""
_PROBES_OF_A_STACK = 4
_MOST_PROBES = 200
"""Names outside layers that are looked for by themselves; no model has as many."""


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """Names of one model that begin with `own` begin with `other` in another model."""

    own: str
    other: str

    def of(self, name: str) -> str | None:
        """Return what a name is in the other model, None if the rule is not about it."""
        return self.other + name[len(self.own) :] if name.startswith(self.own) else None

    @property
    def only_wraps(self) -> bool:
        """Whether it only puts a prefix before names, or takes one away."""
        return not (self.own and self.other)


@dataclass(frozen=True, slots=True)
class Matching:
    """Where a model's tensors stand in another one: by own name, the name there.

    `rules` say by which prefixes. Names that are in no rule's reach are not in `names`.
    """

    names: Mapping[str, str]
    rules: tuple[Rule, ...]

    def beside(self, missing: Collection[str], *, other: bool) -> bool:
        """Whether tensors one of the models lacks are towers of their own, and what serves them.

        They are those of the `other` model, else of the own one. None of them stands among what
        the models share, and at least one is in a stack of layers that is not shared.
        """
        roots = [_root(self._side(rule, other=other)) for rule in self.rules]
        if any(root.holds(name) for name in missing for root in roots):
            return False
        return any(layer_position(name) for name in missing)

    def _side(self, rule: Rule, *, other: bool) -> list[str]:
        pairs = [(own, there) for own, there in self.names.items() if rule.of(own) == there]
        return [there if other else own for own, there in pairs]


@dataclass(frozen=True, slots=True)
class _Root:
    """The modules, all directly below `prefix`, that hold a set of names."""

    prefix: str
    modules: frozenset[str]

    def holds(self, name: str) -> bool:
        """Whether a name belongs to one of the modules, or is a small one right among them."""
        if not name.startswith(self.prefix):
            return False
        rest = name[len(self.prefix) :]
        return _first(rest) in self.modules or (self.prefix != "" and rest.count(".") <= 1)


def _root(names: Collection[str]) -> _Root:
    least, most = min(names), max(names)
    n = next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
    prefix = least[: least.rfind(".", 0, n) + 1]
    return _Root(prefix, frozenset(_first(name[len(prefix) :]) for name in names))


def _first(name: str) -> str:
    return name.partition(".")[0]


def matching(own: Shapes, other: Shapes) -> Matching | None:
    """Return where the tensors of `own` stand in `other`, as far as it is certain; None: nowhere.

    Rules are taken by how many names they fit, shapes included. A rule about a stack of layers has
    to fit more than half of it, one about no layers must only put a prefix before names, or take
    one away.
    """
    names: dict[str, str] = {}
    rules: list[Rule] = []
    left, free = dict(own), dict(other)
    while left and len(rules) < MOST_RULES:
        fits = {rule: _fit(rule, left, free) for rule in _candidates(left, free)}
        fits = {rule: fit for rule, fit in fits.items() if fit and _holds(rule, fit, left)}
        if not fits:
            break
        best = max(fits, key=lambda rule: (len(fits[rule]), rule.own == rule.other))
        if any(_rivals(fits, best, rule) for rule in fits if rule != best):
            break
        rules.append(best)
        for name in list(left):
            there = best.of(name)
            if there in free:
                names[name] = there
                del left[name], free[there]
    return Matching(names, tuple(rules)) if names else None


def _rivals(fits: Mapping[Rule, set[str]], best: Rule, rule: Rule) -> bool:
    """Whether another rule fits as many names as the best, and the same ones otherwise."""
    if best.own == best.other:
        return False  # the same names are the same tensors
    return len(fits[rule]) == len(fits[best]) and bool(fits[rule] & fits[best])


def _fit(rule: Rule, left: Shapes, free: Shapes) -> set[str]:
    """Return the names a rule leads to a tensor of the same shape."""
    return {
        name
        for name, shape in left.items()
        if (there := rule.of(name)) is not None and free.get(there) == shape
    }


def _holds(rule: Rule, fit: Collection[str], left: Shapes) -> bool:
    stacks = {position.stack for name in fit if (position := layer_position(name))}
    if not stacks:
        return rule.only_wraps
    members = [n for n in left if (p := layer_position(n)) is not None and p.stack in stacks]
    return 2 * sum(name in fit for name in members) > len(members)


def _candidates(left: Shapes, free: Shapes) -> set[Rule]:
    """Return the rules that lead one name of each stack, or one outside layers, somewhere."""
    found = {Rule("", "")}
    for name, tail in _probes(left):
        for there, shape in free.items():
            if there.endswith(tail) and shape == left[name] and _at_dot(there, tail):
                found.add(_rule(name, there))
    return found


def _probes(left: Iterable[str]) -> list[tuple[str, str]]:
    """Return names to look for, and the end a name must share to be the same tensor."""
    seen: Counter[str] = Counter()
    outside = []
    found = []
    for name in left:
        position = layer_position(name)
        if position is None:
            outside.append((name, ".".join(name.split(".")[-2:])))
        elif seen[position.stack] < _PROBES_OF_A_STACK:
            seen[position.stack] += 1
            word = position.stack.rstrip(".").rpartition(".")[2]
            found.append((name, name[len(position.stack) - len(word) - 1 :]))
    return found + (outside if len(outside) <= _MOST_PROBES else [])


def _at_dot(name: str, tail: str) -> bool:
    return len(name) == len(tail) or name[-len(tail) - 1] == "."


def _rule(name: str, there: str) -> Rule:
    """Return the rule that keeps as many last parts of a name as the two share."""
    mine, theirs = name.split("."), there.split(".")
    n = 0
    while n < min(len(mine), len(theirs)) and mine[-1 - n] == theirs[-1 - n]:
        n += 1
    prefixes = (".".join(parts[: len(parts) - n]) for parts in (mine, theirs))
    own, other = (prefix + "." if prefix else "" for prefix in prefixes)
    return Rule(own, other)
