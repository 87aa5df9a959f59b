"""What a merge has of its models as sums: which arrays, how large, and where a file holds them.

A rule of a matrix method keeps for each tensor:

    Projecting  sum          S, float32, as the tensor
                before       S as it was before the last model, where sums are kept
    Covarying   changes      A, int64 on a grid, as the tensor
                products     P, the same, where the tensor holds linear maps
                covariances  the lower triangle of each map's C, one behind the other
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mdm_kit.methods.rules import Covarying, Projecting, SumRule
from mdm_kit.planner.layout import Shard
from mdm_kit.planner.maps import merged_nbytes
from mdm_kit.planner.nodes import Apply, Write
from mdm_kit.planner.ruling import rule_of
from mdm_kit.words import DTYPES

SUM, BEFORE = "sum", "before"
CHANGES, PRODUCTS, COVARIANCES = "changes", "products", "covariances"
KEPT_SUMS = "state"
"""What a recipe's `ledger: {keep: state}` says."""


@dataclass(frozen=True, slots=True)
class SumArray:
    """An array of sums: its role, the tensor it is of, its safetensors dtype and shape."""

    role: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def entry(self) -> str:
        """What a file of sums calls it."""
        return f"{self.role}:{self.tensor}"

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * DTYPES[self.dtype].bits // 8


def sum_rule(write: Write) -> SumRule | None:
    """Return the rule of a tensor that is merged as sums, else None."""
    rule = rule_of(write)
    return rule if isinstance(rule, Projecting | Covarying) else None


def n_models(apply: Apply) -> int:
    """Return how many models a node's result holds."""
    n, start = len(apply.inputs), apply.start
    if start is None:
        return n
    return start.n - n if start.takes_out else start.n + n


def sums_of(write: Write, *, keeps: bool) -> tuple[SumArray, ...]:
    """Return the arrays a tensor's sums take, those that are only there to be kept if it `keeps`.

    None for a tensor that is not merged as sums.
    """
    rule, apply = sum_rule(write), write.apply()
    if rule is None or apply is None or apply.is_factored:
        return ()
    name, shape = write.name, write.shape
    if isinstance(rule, Projecting):
        before = keeps and apply.inputs and n_models(apply) > 1
        roles = (SUM, BEFORE) if before else (SUM,)
        return tuple(SumArray(role, name, "F32", shape) for role in roles)
    found = [SumArray(CHANGES, name, "I64", shape)]
    if rule.matrices:
        found.append(SumArray(PRODUCTS, name, "I64", shape))
        size = sum(m.n_in * (m.n_in + 1) // 2 for m in rule.matrices)
        found.append(SumArray(COVARIANCES, name, "I64", (size,)))
    return tuple(found)


def waits_for_norms(write: Write) -> bool:
    """Whether a tensor's scale depends on norms of the whole model."""
    rule = sum_rule(write)
    return isinstance(rule, Projecting) and rule.scale is None and not rule.alone


def is_summed_before(write: Write) -> bool:
    """Whether a tensor's sum is made before its first tile is written, for which the base is read
    again: it holds linear maps, or a norm decides its scale."""
    rule, apply = sum_rule(write), write.apply()
    if rule is None or apply is None or apply.is_factored:
        return False
    return bool(rule.matrices) or (isinstance(rule, Projecting) and rule.scale is None)


def memory_of_sums(write: Write, *, keeps: bool, most_nbytes: int) -> int:
    """Return the memory of a tensor's sums, and of what its maps are merged to, while they grow.

    Without those in files: sums that stay, and arrays of more than `most_nbytes`.
    """
    return merged_nbytes(write) + sum(n for n in _passing(write, keeps=keeps) if n <= most_nbytes)


def unwritten_nbytes(write: Write, *, keeps: bool, most_nbytes: int) -> int:
    """Return the part of `memory_of_sums` that stays until the tensor's last tile is written."""
    if not isinstance(sum_rule(write), Projecting):
        return merged_nbytes(write)
    return memory_of_sums(write, keeps=keeps, most_nbytes=most_nbytes)


def passing_nbytes(write: Write, *, keeps: bool, most_nbytes: int) -> int:
    """Return the disk that a tensor's sums take until it is written: arrays beyond memory."""
    return sum(n for n in _passing(write, keeps=keeps) if n > most_nbytes)


def _passing(write: Write, *, keeps: bool) -> list[int]:
    """Return the sizes of arrays that last until their tensor is written, in no file that stays.

    Tensors without linear maps are summed tile by tile, but where their own norm is their scale.
    """
    if keeps or waits_for_norms(write) or not is_summed_before(write):
        return []
    return [array.nbytes for array in sums_of(write, keeps=False)]


@dataclass(frozen=True, slots=True)
class SumsFile:
    """A file of sums: its name, the exact header (length prefix included), each array's span."""

    name: str
    header: bytes
    spans: dict[str, tuple[int, int]]
    arrays: dict[str, SumArray]
    nbytes: int


def sums_files(shards: Sequence[Shard], *, keeps: bool) -> Iterator[SumsFile]:
    """Yield a file for each shard whose tensors have sums that must lie on disk.

    Those that are kept, and those whose tensor is written only when all others are summed.
    """
    for i, shard in enumerate(shards, start=1):
        arrays = [
            array
            for placed in shard.tensors
            if keeps or waits_for_norms(placed.write)
            for array in sums_of(placed.write, keeps=keeps)
        ]
        if arrays:
            yield _file(f"{KEPT_SUMS}-{i:05d}.safetensors", arrays)


def _file(name: str, arrays: Sequence[SumArray]) -> SumsFile:
    ordered = sorted(arrays, key=lambda a: -DTYPES[a.dtype].bits)
    entries: dict[str, object] = {}
    at = 0
    for array in ordered:
        end = at + array.nbytes
        entries[array.entry] = {
            "dtype": array.dtype,
            "shape": list(array.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    start, spans = 8 + len(text), {}
    for array in ordered:
        spans[array.entry] = (start, start + array.nbytes)
        start += array.nbytes
    header = len(text).to_bytes(8, "little") + text
    return SumsFile(name, header, spans, {a.entry: a for a in ordered}, start)
