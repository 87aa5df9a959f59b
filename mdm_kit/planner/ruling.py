"""What a method's rule means for a tensor before it is read: how often, and with what in memory."""

from __future__ import annotations

import math
from functools import lru_cache

from mdm_kit.maths.layouts import divergence_scratch_nbytes, ranked_draws_scratch_nbytes
from mdm_kit.maths.matrix import Matrix
from mdm_kit.maths.selection import SAMPLE_FROM
from mdm_kit.methods.contract import MethodParams
from mdm_kit.methods.registry import methods
from mdm_kit.methods.rules import (
    Counting,
    DrawnByRank,
    Joining,
    Masking,
    MostSpread,
    Outstanding,
    Ranked,
    Rule,
    Spanning,
    SumRule,
    Vectors,
)
from mdm_kit.planner.compat import compat_memory, is_compat
from mdm_kit.planner.nodes import Write
from mdm_kit.words import DTYPES

VECTORS_AT_ONCE = 65_536
"""Vectors whose factors are found at a time."""


def whole_vectors(vectors: Vectors, size: int) -> int:
    """Return how many elements of whole vectors a tile of about `size` has, in whole bytes of bits.

    No two tiles then share a byte of a mask.
    """
    unit = math.lcm(vectors.length * vectors.inner, 8)
    return max(1, size // unit) * unit


def rule_of(write: Write) -> Rule | SumRule | Joining | None:
    """Return what the tensor's method says about it, or None for a fold or a copy."""
    apply = write.apply()
    if apply is None or apply.weights is not None:
        return None
    if apply.matrices is not None:
        return _matrix_rule(apply.method, apply.params, apply.matrices)
    return _rule(apply.method, apply.params, write.shape)


@lru_cache(maxsize=4096)
def _rule(method: str, params: MethodParams, shape: tuple[int, ...]) -> Rule | None:
    """Ask the method once for all tensors of one shape with the same parameters."""
    rule = methods()[method].rule
    return None if rule is None else rule(params, shape)


@lru_cache(maxsize=4096)
def _matrix_rule(
    method: str, params: MethodParams, matrices: tuple[Matrix, ...]
) -> SumRule | Joining | None:
    """Ask the method once for all tensors that hold the same maps."""
    rule = methods()[method].matrix_rule
    return None if rule is None else rule(params, matrices)


def readings(write: Write, tile: int) -> int:
    """Return how often a tensor is read: once where it fits into one tile, but for joined maps.

    More often where a selection's sample misleads.
    """
    rule = rule_of(write)
    if isinstance(rule, Joining):
        return rule.passes
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
    k = len(apply.inputs)
    if isinstance(rule, Spanning):
        return _vectors_memory(write, rule.vectors, k, tile, threads)
    if not isinstance(rule, Masking):
        return 0
    return _ranks_memory(write, rule, tile, threads) + _draws_memory(write, rule, tile, threads)


def _vectors_memory(write: Write, vectors: Vectors, k: int, tile: int, threads: int) -> int:
    """Products and factors of all vectors, what finding some of them takes, and tiles of rows."""
    if vectors.n == 1:
        return 0
    products = vectors.n * (k * (k + 1) // 2 + k) * 8
    finding = min(vectors.n, VECTORS_AT_ONCE) * 3 * k * k * 8
    return products + finding + _wider_tiles(write, vectors, tile, threads)


def _ranks_memory(write: Write, rule: Masking, tile: int, threads: int) -> int:
    """Scores that are collected, in the workers' scratch and for the selections."""
    n, apply = write.n_elements, write.apply()
    width = 8 if apply is not None and apply.compute == "float64" else 4
    ranks = sum((1 if k.first == 0 else 2) for k in rule.keeps if isinstance(k, Ranked))
    found = 0
    first = rule.keeps[0]
    if isinstance(first, Outstanding):
        ranks += 3
        found += first.vectors.n * 8 + threads * divergence_scratch_nbytes(first.vectors.length)
        found += _wider_tiles(write, first.vectors, tile, threads)
    ranks += isinstance(first, MostSpread)
    per_tile = min(tile, n) if n <= SAMPLE_FROM else min(tile, n) // 4
    # Twice the margin of `maths.selection` around a rank in the middle, in a sample of n / 256.
    collected = min(1.0, 5.0 / math.sqrt(max(1, n) / 256) + 1 / 32)
    return found + ranks * width * (threads * per_tile + int(n * collected))


def _draws_memory(write: Write, rule: Masking, tile: int, threads: int) -> int:
    """A bit for each element of each model, and what sorting whole vectors takes."""
    drawn = [keep for keep in rule.keeps if isinstance(keep, DrawnByRank)]
    if not drawn:
        return 0
    vectors = drawn[0].vectors
    unit = min(write.n_elements, whole_vectors(vectors, tile))
    sorting = threads * ranked_draws_scratch_nbytes(unit, vectors.length)
    bits = len(drawn) * write.n_elements // 8
    return bits + sorting + _wider_tiles(write, vectors, tile, threads)


def _wider_tiles(write: Write, vectors: Vectors, tile: int, threads: int) -> int:
    """Inputs of tiles of whole vectors beyond those of ordinary tiles."""
    more = min(write.n_elements, whole_vectors(vectors, tile)) - tile
    widths = sum(DTYPES[r.info.dtype].bits // 8 for r in write.reads())
    return threads * max(0, more) * widths
