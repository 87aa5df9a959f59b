"""What a method's rule means for a tensor before it is read: how often, and with what in memory."""

from __future__ import annotations

from mdm_kit.maths.selection import SAMPLE_FROM
from mdm_kit.methods.registry import methods
from mdm_kit.methods.rules import (
    Counting,
    DrawnByRank,
    Masking,
    MostSpread,
    Outstanding,
    Ranked,
    Rule,
    Spanning,
)
from mdm_kit.planner.compat import compat_memory, is_compat
from mdm_kit.planner.nodes import Write

_COLLECTED = 1 / 16
"""Share of a large tensor's scores that is collected at most, for all but odd distributions."""


def rule_of(write: Write) -> Rule | None:
    """Return what the tensor's method says about it, or None for a fold or a copy."""
    apply = write.apply()
    if apply is None or apply.weights is not None:
        return None
    rule = methods()[apply.method].rule
    return None if rule is None else rule(apply.params, write.shape)


def readings(write: Write, tile: int) -> int:
    """Return how often a tensor is read: once where it fits into one tile.

    More often where a selection's sample misleads.
    """
    rule = rule_of(write)
    if rule is None or write.n_elements <= tile:
        return 1
    if isinstance(rule, Spanning):
        return 2
    if isinstance(rule, Counting):
        return 2 if rule.r and rule.alpha else 1
    if not isinstance(rule, Masking):
        return 1
    keep = rule.keeps[0]
    selected = any(isinstance(k, Ranked) for k in rule.keeps)
    selected = selected or isinstance(keep, MostSpread | Outstanding)
    found = 1 + int(rule.rescale or rule.weights is None)
    if selected:
        found += 2 if write.n_elements > SAMPLE_FROM else 1
    return found + int(any(isinstance(k, DrawnByRank | Outstanding) for k in rule.keeps))


def rule_memory(write: Write, tile: int, threads: int) -> int:
    """Return the bytes a rule's state and its workers' scratch take beyond inputs and output."""
    rule, apply = rule_of(write), write.apply()
    if apply is not None and is_compat(apply.compute):
        return threads * compat_memory(apply, write.n_elements)
    if rule is None or apply is None:
        return 0
    n, k = write.n_elements, len(apply.inputs)
    tile = min(tile, n)
    if isinstance(rule, Spanning):
        return 0 if rule.vectors.n == 1 else rule.vectors.n * (k * (k + 3) // 2 + k * k) * 8
    if not isinstance(rule, Masking):
        return 0
    found = 0
    width = 8 if apply.compute == "float64" else 4
    ranks = sum((1 if k.first == 0 else 2) for k in rule.keeps if isinstance(k, Ranked))
    ranks += 3 * isinstance(rule.keeps[0], Outstanding) + isinstance(rule.keeps[0], MostSpread)
    if ranks:
        per_tile = tile if n <= SAMPLE_FROM else tile // 4
        found += ranks * width * (threads * per_tile + int(n * _COLLECTED))
    drawn = [keep for keep in rule.keeps if isinstance(keep, DrawnByRank)]
    if drawn:
        unit = max(tile, drawn[0].vectors.length * drawn[0].vectors.inner)
        found += len(drawn) * n // 8 + threads * (unit * 13 + drawn[0].vectors.length * 16)
    return found
