"""Keeps models losslessly beside a merge: each one's bits against its base's, in one pass.

Tensor by tensor and block by block a worker borrows the base's numbers once and codes every model
against them; the caller digests and writes the results in order. The bytes depend on neither the
number of workers nor who was faster, and memory not on the models' size.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from mdm_kit.bundle.kept_file import FileDigest, KeptFile
from mdm_kit.maths.planes import Bytes
from mdm_kit.planner.costs import SPARE_TILES
from mdm_kit.run.foresight import Foresight
from mdm_kit.sources import Loan, Source
from mdm_kit.sources.kept_codec import BLOCK_ELEMENTS, elements, encode_block, pack, trailer
from mdm_kit.sources.kept_facts import HEAD, SIDE, TENSOR, Facts, Identity, KeptTensor
from mdm_kit.sources.verbatim import head_bytes, index_file
from mdm_kit.words import TensorInfo


@dataclass(frozen=True, slots=True)
class Kept:
    """A model to keep in the file `path`, coded against `base`, or whole without one."""

    source: Source
    base: Source | None
    path: Path


@dataclass(frozen=True, slots=True)
class _Job:
    """A block of elements of one tensor, in some models and, where they are coded so, in a base."""

    members: tuple[tuple[_Writing, TensorInfo], ...]
    base: tuple[Source, TensorInfo] | None
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class _Coded:
    """What a job gives for each of its members: the block, and the bytes it is of."""

    blocks: list[bytes]
    loans: list[Loan]

    def release(self) -> None:
        for loan in self.loans:
            loan.release()


def keep_deltas(
    kept: Sequence[Kept],
    threads: int,
    advance: Callable[[int], None] = lambda _: None,
    foresight: Foresight | None = None,
) -> dict[str, FileDigest]:
    """Write every kept model's file and return their digests by file name.

    What is far is fetched ahead with `foresight`. `advance` is told the models' bytes as they are
    coded. Files get their names one after the other at the end, each whole. Raises what sources
    raise, `RoomError` where the disk refuses, `UsageError` for a model of too many tensors.
    """
    with contextlib.ExitStack() as stack:
        writings = [_Writing(k, stack) for k in kept]
        pool = stack.enter_context(ThreadPoolExecutor(threads, "keep"))
        foresight = foresight or Foresight(())
        jobs = foresight.ahead(_jobs(writings), _announce)
        results = _in_order(pool, jobs, threads, foresight.give_up)
        with contextlib.closing(results):
            for job, coded in results:
                _take(job, coded)
                advance(sum(loan.nbytes for loan in coded.loans))
        return {w.kept.path.name: w.finish() for w in writings}


class _Writing:
    """One model on its way to its file."""

    def __init__(self, kept: Kept, stack: contextlib.ExitStack) -> None:
        """Create the file and write what is not a tensor."""
        self.kept = kept
        self._facts, small = _facts_of(kept)
        names = [*small, *(TENSOR + name for name in self._facts.tensors)]
        self._file = stack.enter_context(KeptFile(kept.path, names, self._facts.to_metadata()))
        self._digests: dict[str, str] = {}
        self._ends: list[int] = []
        self._digest = blake3()
        for name, data in small.items():
            self._file.begin(name)
            self._file.append(pack(data))

    def fits(self, info: TensorInfo) -> bool:
        """Whether a tensor is coded against the base's."""
        return self._facts.tensors[info.name].against_base

    def take(self, info: TensorInfo, block: bytes, raw: memoryview, *, is_last: bool) -> None:
        """Write the next block of a tensor, empty if the tensor is, and what follows the last."""
        if not self._ends:
            self._file.begin(TENSOR + info.name)
        self._digest.update(raw)
        self._file.append(block)
        self._ends.append(len(block) + (self._ends[-1] if self._ends else 0))
        if is_last:
            self._file.append(trailer(self._ends) if block else b"")
            self._digests[info.name] = self._digest.hexdigest()
            self._digest, self._ends = blake3(), []

    def finish(self) -> FileDigest:
        """Give the file its header and its name."""
        facts = self._facts
        tensors = {
            n: KeptTensor(t.against_base, self._digests[n]) for n, t in facts.tensors.items()
        }
        whole = Facts(facts.source, facts.base, facts.files, facts.index, tensors)
        return self._file.finish(whole.to_metadata())


def _facts_of(kept: Kept) -> tuple[Facts, dict[str, bytes]]:
    """Return what the file will say, without digests, and its small entries by name."""
    source, base = kept.source, kept.base
    checkpoint = source.headers()
    in_base = base.headers().tensors if base else {}
    small = {HEAD + f.name: head_bytes(source, f) for f in checkpoint.files}
    index = index_file(source)
    if index is not None:
        small[HEAD + index[0]] = index[1]
    for name in source.side_files():
        small[SIDE + name] = source.side_file(name) or b""
    tensors = {}
    for name, info in checkpoint.tensors.items():
        found = in_base.get(name)
        fits = found is not None and (found.dtype, found.shape) == (info.dtype, info.shape)
        tensors[name] = KeptTensor(fits)
    facts = Facts(
        source=Identity(source.fingerprint(), source.content_fingerprint()),
        base=Identity(base.fingerprint(), base.content_fingerprint()) if base else None,
        files={f.name: f.nbytes for f in checkpoint.files},
        index=index[0] if index else None,
        tensors=tensors,
    )
    return facts, small


def _jobs(writings: Sequence[_Writing]) -> Iterator[_Job]:
    """Yield all blocks: base by base, its tensors in its order, then those it does not have."""
    bases = {id(w.kept.base): w.kept.base for w in writings}
    for key, base in bases.items():
        members = [w for w in writings if id(w.kept.base) == key]
        in_base = base.headers().tensors if base else {}
        held = [w.kept.source.headers().tensors for w in members]
        for name in dict.fromkeys((*in_base, *(n for tensors in held for n in tensors))):
            having = [(w, t[name]) for w, t in zip(members, held, strict=True) if name in t]
            shared = tuple((w, info) for w, info in having if w.fits(info))
            if base is not None and shared:
                yield from _blocks(shared, (base, in_base[name]))
            for w, info in having:
                if not w.fits(info):
                    yield from _blocks(((w, info),), None)


def _blocks(
    members: tuple[tuple[_Writing, TensorInfo], ...], base: tuple[Source, TensorInfo] | None
) -> Iterator[_Job]:
    n, _ = elements(members[0][1])
    for start in range(0, max(1, n), BLOCK_ELEMENTS):
        yield _Job(members, base, start, min(BLOCK_ELEMENTS, n - start))


def _take(job: _Job, coded: _Coded) -> None:
    for (writing, info), block, loan in zip(job.members, coded.blocks, coded.loans, strict=True):
        is_last = job.start + job.count == elements(info)[0]
        writing.take(info, block, loan.view(), is_last=is_last)


def _in_order(
    pool: ThreadPoolExecutor, jobs: Iterable[_Job], threads: int, give_up: Callable[[], None]
) -> Generator[tuple[_Job, _Coded]]:
    """Code jobs side by side and yield the results in order; a result's loans end with its turn.

    On an error `give_up` is to free workers that wait for something.
    """
    pending: deque[tuple[_Job, Future[_Coded]]] = deque()
    try:
        for job in jobs:
            pending.append((job, pool.submit(_code, job)))
            if len(pending) >= threads + SPARE_TILES:
                yield from _next(pending)
        while pending:
            yield from _next(pending)
    except BaseException:
        give_up()
        raise
    finally:
        for _, future in pending:
            if not future.cancel() and future.exception() is None:
                future.result().release()


def _next(pending: deque[tuple[_Job, Future[_Coded]]]) -> Iterator[tuple[_Job, _Coded]]:
    job, future = pending.popleft()
    coded = future.result()
    try:
        yield job, coded
    finally:
        coded.release()


def _code(job: _Job) -> _Coded:
    if job.base is None:
        return _coded(job, None)
    loan = _lent(*job.base, job)
    try:
        return _coded(job, np.frombuffer(loan.view(), np.uint8))
    finally:
        loan.release()


def _coded(job: _Job, base: Bytes | None) -> _Coded:
    coded = _Coded([], [])
    try:
        for writing, info in job.members:
            loan = _lent(writing.kept.source, info, job)
            coded.loans.append(loan)
            x = np.frombuffer(loan.view(), np.uint8)
            coded.blocks.append(encode_block(x, base, info.dtype) if job.count else b"")
    except BaseException:
        coded.release()
        raise
    return coded


def _announce(job: _Job) -> int:
    reads = [(w.kept.source, info) for w, info in job.members]
    for source, info in (*([job.base] if job.base else ()), *reads):
        width = elements(info)[1]
        source.expect(info, job.start * width, job.count * width)
    return sum(job.count * elements(info)[1] for _, info in reads)


def _lent(source: Source, info: TensorInfo, job: _Job) -> Loan:
    width = elements(info)[1]
    return source.lend(info, job.start * width, job.count * width)
