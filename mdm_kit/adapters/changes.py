"""What a fine-tune changed, tensor by tensor, streamed: factors, or the size of the change."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from mdm_kit.adapters.fitting import Fit
from mdm_kit.adapters.modules import Linear, Modules
from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.mergekit_arithmetic.one_thread import one_thread
from mdm_kit.maths.range_finder import Factored, numbers_of, of_energy, of_rank
from mdm_kit.maths.spectrum import squared_norm
from mdm_kit.run.foresight import Foresight
from mdm_kit.sources import Source
from mdm_kit.words import DTYPES, TensorInfo, shown

PART_ELEMENTS = 16 * BLOCK
"""Elements of both tensors that are read at once."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How much of each change is kept: a rank, or a share of ‖d‖² with at most `max_rank`.

    `dtype` is what factors are stored as, `seed` that of the test matrices.
    """

    rank: int | None
    energy: float
    max_rank: int | None
    dtype: torch.dtype
    seed: int

    def factored(self, d: Tensor, name: str) -> Factored:
        """Return factors of the change d (out, in) float32 of the tensor `name`."""
        numbers = numbers_of(self.seed, name)
        if self.rank is not None:
            return of_rank(d, self.rank, numbers)
        return of_energy(d, self.energy, numbers, self.max_rank)


@dataclass(frozen=True, slots=True)
class Change:
    """What changed in a tensor, if anything did: ‖d‖², and where it is a module's linear weight
    the factors `down` (r, in) and `up` (out, r) as they are stored, and ‖d − up down‖².
    """

    info: TensorInfo
    changed: bool
    squared: float = 0.0
    linear: Linear | None = None
    down: Tensor | None = None
    up: Tensor | None = None
    lost: float = 0.0


def changes(
    fit: Fit,
    modules: Modules,
    keeping: Keeping,
    threads: int,
    advance: Callable[[int], object],
) -> Generator[Change]:
    """Yield what changed in each tensor of a model, in the base's order, reading both once.

    Each of `threads` workers holds one tensor's change at a time; the numbers do not depend on how
    many there are. `advance` is told of bytes read. Raises `NotFiniteError` for a NaN or an
    infinity, and what reading raises.
    """
    sources = (fit.model.source, fit.base.source)

    def work(pair: _Infos) -> Change:
        linear = modules.linear(pair[1].name)
        with one_thread():
            if linear is None:
                return _measured(sources, pair)
            return _factored(sources, pair, linear, keeping)

    def announce(pair: _Infos) -> int:
        for start, count in _parts(pair[0]):
            for source, info in zip(sources, pair, strict=True):
                source.expect(info, *_span(info, start, count))
        return sum(info.nbytes for info in pair)

    with Foresight(sources) as foresight:
        pairs = foresight.ahead(iter(fit.pairs), announce)
        for pair, change in _in_order(pairs, work, threads, foresight.give_up):
            advance(sum(info.nbytes for info in pair))
            yield change


def whole_change(fit: Fit, name: str) -> Tensor:
    """Return model minus base of a small tensor, flat and float32."""
    pair = fit.model.checkpoint.tensors[name], fit.base.checkpoint.tensors[name]
    return torch.cat(list(_deltas((fit.model.source, fit.base.source), pair)))


_Infos = tuple[TensorInfo, TensorInfo]
"""A tensor of the model, and the base's."""


def _in_order(
    pairs: Iterator[_Infos],
    work: Callable[[_Infos], Change],
    threads: int,
    give_up: Callable[[], None],
) -> Iterator[tuple[_Infos, Change]]:
    """Yield each pair with its change, in order; at most one more is begun than there are threads.

    The executor's stream is for results of a known size; a rank is not known before.
    """
    running: deque[tuple[_Infos, Future[Change]]] = deque()
    pool = ThreadPoolExecutor(threads, "change")
    try:
        for pair in pairs:
            running.append((pair, pool.submit(work, pair)))
            if len(running) > threads:
                first, future = running.popleft()
                yield first, future.result()
        for first, future in running:
            yield first, future.result()
    except BaseException:
        give_up()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _factored(sources: Sequence[Source], pair: _Infos, linear: Linear, keeping: Keeping) -> Change:
    """Return a linear weight's change in factors; the change is never stored but here."""
    base = pair[1]
    d, at = torch.empty(base.n_elements), 0
    for part in _deltas(sources, pair):
        d[at : at + len(part)] = part
        at += len(part)
    squared = squared_norm(d)
    if not squared:
        return Change(base, changed=False)
    d = d.view(base.shape)
    d = d.mT if linear.turned else d  # (out, in)
    found = keeping.factored(d, base.name)
    up, down = found.left.to(keeping.dtype), found.right.to(keeping.dtype)
    d.addmm_(up.float(), down.float(), alpha=-1)
    lost = squared_norm(d.mT if linear.turned else d)
    return Change(base, True, squared, linear, down.contiguous(), up.contiguous(), lost)


def _measured(sources: Sequence[Source], pair: _Infos) -> Change:
    """Return the size of a change that is not factored."""
    if all(DTYPES[info.dtype].merges for info in pair):
        squared = math.fsum(squared_norm(part) for part in _deltas(sources, pair))
        return Change(pair[1], changed=squared > 0.0, squared=squared)
    same = all(
        torch.equal(*(_stored(s, info, *part) for s, info in zip(sources, pair, strict=True)))
        for part in _parts(pair[0])
    )
    return Change(pair[1], changed=not same)


def _deltas(sources: Sequence[Source], pair: _Infos) -> Iterator[Tensor]:
    """Yield model minus base in parts, flat: formed once, in float32, or of float64 in float64."""
    for start, count in _parts(pair[0]):
        model, base = (
            _numbers(s, info, start, count) for s, info in zip(sources, pair, strict=True)
        )
        wide = torch.float64 in (model.dtype, base.dtype)
        dtype = torch.float64 if wide else torch.float32
        d = torch.sub(model.to(dtype), base.to(dtype)).float()
        if not bool(d.isfinite().all()):
            raise _not_finite(pair, model, base)
        yield d


def _numbers(source: Source, info: TensorInfo, start: int, count: int) -> Tensor:
    """Return `count` of a tensor's elements as they are stored, in memory of their own."""
    dtype: torch.dtype = getattr(torch, DTYPES[info.dtype].torch_name)
    return _stored(source, info, start, count).view(dtype)


def _stored(source: Source, info: TensorInfo, start: int, count: int) -> Tensor:
    """Return the bytes of `count` of a tensor's elements, uint8."""
    loan = source.lend(info, *_span(info, start, count))
    try:
        return torch.frombuffer(loan.view(), dtype=torch.uint8).clone()
    finally:
        loan.release()


def _not_finite(pair: _Infos, model: Tensor, base: Tensor) -> NotFiniteError:
    for info, numbers in zip(pair, (model, base), strict=True):
        if not bool(numbers.isfinite().all()):
            return NotFiniteError(
                f"tensor '{shown(info.name)}' of the {info.source} holds a NaN or an infinity; "
                "get that model again, or take an earlier checkpoint"
            )
    return NotFiniteError(
        f"tensor '{shown(pair[1].name)}': model minus base is too large for float32"
    )


def _parts(info: TensorInfo) -> Iterator[tuple[int, int]]:
    """Yield where parts of a tensor begin and how many elements they have."""
    for start in range(0, info.n_elements, PART_ELEMENTS):
        yield start, min(PART_ELEMENTS, info.n_elements - start)


def _span(info: TensorInfo, start: int, count: int) -> tuple[int, int]:
    """Return the first byte of a part, and how many bytes it has."""
    bits = DTYPES[info.dtype].bits
    return start * bits // 8, count * bits // 8
