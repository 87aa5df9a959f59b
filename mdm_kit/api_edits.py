"""The Python API of finished merges: extend one, take it apart, get a model back out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.api import at_least_one
from mdm_kit.errors import UsageError
from mdm_kit.recipe import Addition

if TYPE_CHECKING:
    from mdm_kit.ledger.entries import Mode
    from mdm_kit.ledger.products import Products
    from mdm_kit.planner.edit import Settings
    from mdm_kit.planner.parents import Parents
    from mdm_kit.planner.plan import Plan
    from mdm_kit.run.merge import Merged, Restart
    from mdm_kit.run.progress import Progress
    from mdm_kit.sources import Site, Source


@dataclass(frozen=True, slots=True)
class Running:
    """How an edit of a merge is laid out and carried out; see `merge` for what each means."""

    device: str = "auto"
    threads: int | None = None
    memory_nbytes: int | None = None
    shard_nbytes: int | None = None
    restart: Restart = "auto"
    overwrite: bool = False
    hash_sources: bool = False


def add(
    source: str | os.PathLike[str] | Site,
    out: str | os.PathLike[str],
    models: Sequence[Addition],
    *,
    sources: Mapping[str, str | Source] | None = None,
    running: Running | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Merge the finished merge `source` with more models, behind those it has, into `out`.

    `source` is a folder or a repository of the Hub, `owner/name` or `owner/name@revision`.
    The bytes are those of one merge of all of them. Only inner products with the new models are
    measured. `sources` says by name where models of the merge live now. Raises `UsageError` for a
    patched merge or a name that is taken, `SourceError` where models cannot be had,
    `IntegrityError` where the merge does not hold together, and what `merge` raises.
    """
    from mdm_kit.planner.edits import plan_add

    return _edited(
        source, out, sources, running, progress, lambda p, g, s: plan_add(p, g, models, s)
    )


def unmerge(
    source: str | os.PathLike[str] | Site,
    out: str | os.PathLike[str],
    drop: Sequence[str],
    *,
    mode: Mode = "rebuild",
    reset_coefficients: bool = False,
    sources: Mapping[str, str | Source] | None = None,
    running: Running | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Take the models named in `drop` out of the finished merge `source` (see `add`), into `out`.

    `rebuild` folds base and survivors with the stored inner products; the bytes are those of a
    merge that never held the removed models, which are not read. `exact` patches the stored
    weights, at most one step of the output dtype away. `subtract` takes away the removed models'
    orthogonal components and says what is left of them. `reset_coefficients` (with `rebuild`) gives
    every survivor the method's default coefficient. Raises like `add`.
    """
    from mdm_kit.planner.edits import plan_rebuild
    from mdm_kit.planner.patches import plan_patch

    if mode not in ("rebuild", "exact", "subtract"):
        raise UsageError(f"mode should be rebuild, exact or subtract, found {mode!r}")
    if not drop:
        raise UsageError("name at least one model to take out")
    names = tuple(dict.fromkeys(drop))
    if mode == "rebuild":
        return _edited(
            source,
            out,
            sources,
            running,
            progress,
            lambda p, g, s: plan_rebuild(p, g, names, s, reset=reset_coefficients),
        )
    if reset_coefficients:
        raise UsageError(f"coefficients are reset by a rebuild, not by {mode}")
    return _edited(
        source,
        out,
        sources,
        running,
        progress,
        lambda p, g, s: plan_patch(p, g, names, s, exact=mode == "exact"),
    )


def extract(
    source: str | os.PathLike[str] | Site,
    name: str,
    out: str | os.PathLike[str],
    *,
    sources: Mapping[str, str | Source] | None = None,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a model of the finished merge `source` back to the new folder `out`, bit for bit.

    The merge must keep it (`ledger: {keep: deltas}`), and the base it is kept against must be had.
    Raises `UsageError` for a name the merge does not have, `SourceError` where it does not keep the
    model or the base is gone, `IntegrityError` where what it keeps was changed.
    """
    from mdm_kit.planner.edits import kept_model
    from mdm_kit.planner.planning import default_threads
    from mdm_kit.run.extract import extract as write_back
    from mdm_kit.run.opened_merge import opened_merge
    from mdm_kit.sources import open_site

    n_threads = at_least_one("threads", threads, default_threads())
    with (
        opened_merge(open_site(source), sources or {}) as (parents, _),
        kept_model(parents, name) as model,
    ):
        write_back(model, Path(out), n_threads, advance)


def _edited(
    source: str | os.PathLike[str] | Site,
    out: str | os.PathLike[str],
    sources: Mapping[str, str | Source] | None,
    running: Running | None,
    progress: Progress | None,
    planned: Callable[[Parents, Products, Settings], Plan],
) -> Merged:
    from mdm_kit.bundle.stage import check_output
    from mdm_kit.planner.costs import DEFAULT_MEMORY_NBYTES, Budget
    from mdm_kit.planner.edit import Settings
    from mdm_kit.planner.planning import DEFAULT_SHARD_NBYTES, default_threads
    from mdm_kit.run.merge import run_plan
    from mdm_kit.run.opened_merge import opened_merge
    from mdm_kit.sources import open_site

    how = running or Running()
    check_output(Path(out).absolute(), overwrite=how.overwrite)
    settings = Settings(
        at_least_one("shard_nbytes", how.shard_nbytes, DEFAULT_SHARD_NBYTES),
        Budget(
            at_least_one("threads", how.threads, default_threads()),
            at_least_one("memory_nbytes", how.memory_nbytes, DEFAULT_MEMORY_NBYTES),
        ),
    )
    with (
        opened_merge(open_site(source), sources or {}) as (parents, products),
        planned(parents, products, settings) as made,
    ):
        if progress is not None and made.findings and not made.exit_code:
            progress.say(made.report())
        return run_plan(
            made,
            Path(out),
            device=how.device,
            restart=how.restart,
            overwrite=how.overwrite,
            hash_sources=how.hash_sources,
            progress=progress,
        )
