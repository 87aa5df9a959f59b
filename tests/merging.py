"""One tensor through a method and the real kernels, without recipes or files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import Method, MethodParams
from mdm_kit.planner.costs import Budget
from mdm_kit.planner.nodes import Apply, Delta, Fold, Read, Write
from mdm_kit.run.cpu_kernels import CpuKernels
from mdm_kit.run.executor import stream
from mdm_kit.run.map_course import MapCourse
from mdm_kit.run.progress import Silent
from mdm_kit.run.summing_before import sum_before
from mdm_kit.run.tile import (
    Batch,
    Job,
    await_sums,
    measure_tiles_of,
    stage_tiles_of,
    sum_tiles_of,
    tiles_of,
)
from mdm_kit.run.work import Kernels, Work
from mdm_kit.sources import MemorySource
from mdm_kit.words import DTYPES

NAMES = {d.torch_name: d.name for d in DTYPES.values()}


def sources_of(models: Sequence[Tensor], base: Tensor | None) -> dict[str, MemorySource]:
    given = {f"m{i}": t for i, t in enumerate(models)} | ({} if base is None else {"base": base})
    return {name: MemorySource.from_tensors(name, {"w": t}) for name, t in given.items()}


def node(
    method: Method, params: MethodParams, sources: dict[str, MemorySource], out: torch.dtype
) -> Write:
    """The plan of one tensor `w`, in float64 where an input or the output is float64."""
    reads = {name: Read(s.headers().tensors["w"]) for name, s in sources.items()}
    models = [r for name, r in reads.items() if name != "base"]
    shape = models[0].info.shape
    name = NAMES[str(out).removeprefix("torch.")]
    wide = name == "F64" or any(r.info.dtype == "F64" for r in reads.values())
    compute, group = ("float64" if wide else "float32"), ("w" if method.solve else None)
    root: Apply | Fold
    if method.takes_deltas(with_base="base" in reads):
        deltas = tuple(Delta(m, reads["base"]) for m in models)
        maps = None if method.matrix_rule is None else maps_of(shape)
        if not method.keeps_sums:
            maps = maps or None
        apply = Apply(method.name, deltas, params, compute, group, matrices=maps)
        root = Fold(reads["base"], apply)
    else:
        if method.base == "first":
            models = [reads["base"], *models]
        root = Apply(method.name, tuple(models), params, compute, group)
    n = models[0].info.n_elements
    return Write("w", shape, name, n * out.itemsize, root)


def maps_of(shape: tuple[int, ...]) -> tuple[Matrix, ...]:
    """A tensor with two axes is one linear map, any other holds none."""
    return (Matrix.plain(*shape),) if len(shape) == 2 and 0 not in shape else ()


def merged(
    method: Method,
    params: MethodParams,
    models: Sequence[Tensor],
    base: Tensor | None = None,
    *,
    out: torch.dtype | None = None,
    kernels: Kernels | None = None,
    seed: int = 0,
    tile: int | None = None,
) -> Tensor:
    """Merge one tensor; a method that needs a base gets zeros for one.

    With `tile` in tiles of that many elements, as a large tensor is, by two workers.
    """
    if base is None and method.needs_base:
        base = torch.zeros_like(models[0])
    sources = sources_of(models, base)
    dtype = out or models[0].dtype
    write = node(method, params, sources, dtype)
    if not write.n_elements:
        return torch.empty(write.shape, dtype=dtype)
    work = Work(kernels or CpuKernels(), sources, seed=seed)
    result = np.empty(write.nbytes, np.uint8)
    sum_before([write], work, Budget(2), None, Silent())
    handed_out = jobs(write, work, tile or write.n_elements)
    for job, out_bytes in stream(handed_out, work, 2, await_others=await_sums):
        if isinstance(job, Batch):
            result[job.at : job.at + job.nbytes] = out_bytes[job.lead :]
    return torch.from_numpy(result).view(dtype).reshape(write.shape)


def jobs(write: Write, work: Work, tile: int) -> Iterator[Job]:
    """What the executor does for one tensor, tile by tile, at byte 0 of its file."""
    course = work.course_of(write)
    measured = work.tally(write, exact=False) if write.apply().group else None  # type: ignore[union-attr]
    if isinstance(course, MapCourse):
        yield from sum_tiles_of(course, tile)
    if write.n_elements > tile:
        if measured is not None:
            yield from measure_tiles_of(measured, tile)
        for i in range(len(course.stages) if course else 0):
            yield from stage_tiles_of(course, i, tile)
    at = 0
    for part in tiles_of(write, tile, measured, course):
        yield Batch((part,), at)
        at += part.nbytes
