"""One tensor through a method and the real kernels, without recipes or files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mdm_kit.methods.contract import Method, MethodParams
from mdm_kit.planner.nodes import Apply, Delta, Fold, Read, Write
from mdm_kit.run.cpu_kernels import CpuKernels
from mdm_kit.run.tally import Tally
from mdm_kit.run.tile import Batch, tiles_of
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
    if method.needs_base:
        deltas = tuple(Delta(m, reads["base"]) for m in models)
        root = Fold(reads["base"], Apply(method.name, deltas, params, compute, group))
    else:
        root = Apply(method.name, tuple(models), params, compute, group)
    n = models[0].info.n_elements
    return Write("w", shape, name, n * out.itemsize, root)


def merged(
    method: Method,
    params: MethodParams,
    models: Sequence[Tensor],
    base: Tensor | None = None,
    *,
    out: torch.dtype | None = None,
    kernels: Kernels | None = None,
) -> Tensor:
    """Merge one tensor; a delta method without a base gets zeros for one."""
    if base is None and method.needs_base:
        base = torch.zeros_like(models[0])
    sources = sources_of(models, base)
    dtype = out or models[0].dtype
    write = node(method, params, sources, dtype)
    if not write.n_elements:
        return torch.empty(write.shape, dtype=dtype)
    work = Work(kernels or CpuKernels(), sources)
    result = np.empty(write.nbytes, np.uint8)
    measured = Tally(write, exact=False) if method.solve else None
    work(Batch(tuple(tiles_of(write, write.n_elements, measured)), 0), result)
    return torch.from_numpy(result).view(dtype).reshape(write.shape)
