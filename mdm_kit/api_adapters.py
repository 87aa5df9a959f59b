"""The Python API of adapters: what a fine-tune changed, as a LoRA."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.api import at_least_one
from mdm_kit.api_models import opened, reference
from mdm_kit.errors import UsageError
from mdm_kit.words import ModelRef, shown

if TYPE_CHECKING:
    from mdm_kit.adapters.changes import Keeping
    from mdm_kit.adapters.config import Named
    from mdm_kit.adapters.extracted import ExtractedLora
    from mdm_kit.run.progress import Progress
    from mdm_kit.sources import Source

    Model = ModelRef | Source | str | os.PathLike[str]

DEFAULT_RANK = 32
DTYPES = ("float32", "bfloat16", "float16")
"""What factors can be stored as."""


def extract_lora(
    model: Model,
    base: Model,
    out: str | os.PathLike[str],
    *,
    rank: int | None = None,
    energy: float | None = None,
    max_rank: int | None = None,
    save_modules: bool = False,
    dtype: str = "float32",
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ExtractedLora:
    """Write what `model` changed of `base` as a LoRA to the new folder `out`, for peft to load.

    A model is a folder, a reference as a recipe writes it or an open source, which stays open. Each
    linear weight's change is factored to `rank` (32 if neither is given), or to the least rank that
    holds the share `energy` of its squared norm, `max_rank` at most. Other tensors that changed are
    listed in the result; with `save_modules` their modules go in whole. The bytes depend on the
    models, the options and `seed` alone. Each of `threads` workers, one per core if None, holds one
    weight's change in float32. `progress` hears of bytes read.

    Raises `UsageError` for options that exclude each other, where `out` holds something and where
    no linear weight changed, `FindingsError` for models that do not fit together, `NotFiniteError`
    for a NaN or an infinity, `SourceError` and `IntegrityError` for a model that cannot be had or
    contradicts itself.
    """
    from mdm_kit.adapters.extracting import Wanted, extract_lora
    from mdm_kit.adapters.fitting import fitted
    from mdm_kit.bundle.new_folder import check_new
    from mdm_kit.planner.planning import default_threads
    from mdm_kit.run.progress import Silent

    keeping = _keeping(rank, energy, max_rank, dtype, seed)
    workers = at_least_one("threads", threads, default_threads())
    check_new(Path(out))
    told = progress or Silent()
    with ExitStack() as until:
        wanted = Wanted(keeping, save_modules, _named(model, "model"), _base_named(base))
        fit = fitted(opened(model, "model", until), opened(base, "base", until))
        told.start(sum(t.nbytes for pair in fit.pairs for t in pair), 0)
        return extract_lora(fit, Path(out), wanted, workers, told.advance)


def _keeping(
    rank: int | None, energy: float | None, max_rank: int | None, dtype: str, seed: int
) -> Keeping:
    import torch

    from mdm_kit.adapters.changes import Keeping

    if dtype not in DTYPES:
        raise UsageError(f"dtype should be one of {', '.join(DTYPES)}, found {dtype!r}")
    if energy is None:
        if max_rank is not None:
            raise UsageError("max_rank goes with energy; a rank by itself is the rank")
        rank = at_least_one("rank", rank, DEFAULT_RANK)
    elif rank is not None:
        raise UsageError("expected a rank or a share of energy, found both; leave one out")
    elif not 0.0 < energy <= 1.0:
        raise UsageError(f"energy should be above 0 and at most 1, found {energy}")
    if max_rank is not None:
        max_rank = at_least_one("max_rank", max_rank, 1)
    return Keeping(rank, energy or 1.0, max_rank, getattr(torch, dtype), seed)


def _base_named(base: Model) -> Named:
    named = _named(base, "base")
    if isinstance(base, str | os.PathLike):
        base = reference(base, "base")
    if isinstance(base, ModelRef) and base.adapter is not None:
        raise UsageError(
            f"base {shown(str(base))}: a LoRA is put on a model, and this one has an adapter of "
            "its own on it; merge that first and name the merged model"
        )
    return named


def _named(model: Model, name: str) -> Named:
    from mdm_kit.adapters.config import Named

    if isinstance(model, str | os.PathLike):
        model = reference(model, name)
    if isinstance(model, ModelRef):
        what = model.adapter or model
        return Named(what.path, what.revision)
    origin = model.origin()
    return Named(origin.repo or origin.path or model.name, origin.commit)
