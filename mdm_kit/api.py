"""The Python API: the same verbs as the command line, with typed results."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.errors import RecipeError, UsageError
from mdm_kit.recipe import (
    Addition,
    Parsed,
    Recipe,
    Scalar,
    WrongValue,
    load_recipe_file,
    parse_reference,
    read_recipe_text,
)
from mdm_kit.words import Kind, Level, ModelRef, shown

if TYPE_CHECKING:
    from mdm_kit.bundle.verify import Verified
    from mdm_kit.ledger.manifest import Mode
    from mdm_kit.ledger.products import Products
    from mdm_kit.planner.edits import Settings
    from mdm_kit.planner.parents import Parents
    from mdm_kit.planner.plan import Plan
    from mdm_kit.run.compared import Difference
    from mdm_kit.run.merge import Merged, Restart
    from mdm_kit.run.progress import Progress
    from mdm_kit.sources import Source

RecipeLike = Recipe | str | os.PathLike[str]


def check_recipe(recipe: str | os.PathLike[str]) -> Parsed:
    """Return a recipe and everything wrong with it: its YAML, its keys, its method's parameters.

    `recipe` is the path of a file, or YAML text if it is a `str` of more than one line.
    """
    from mdm_kit.planner.planning import recipe_findings

    is_text = isinstance(recipe, str) and "\n" in recipe
    parsed = read_recipe_text(recipe) if is_text else load_recipe_file(recipe)  # type: ignore[arg-type]
    if parsed.recipe is None:
        return parsed
    return replace(parsed, findings=(*parsed.findings, *recipe_findings(parsed.recipe)))


def read_recipe(recipe: str | os.PathLike[str]) -> Recipe:
    """Return a recipe read from a file, or from YAML text if it is a `str` of several lines.

    Raises `RecipeError` with every finding where something is wrong, `UsageError` where the file
    cannot be read.
    """
    return check_recipe(recipe).require()


def plan(
    recipe: RecipeLike,
    *,
    shard_nbytes: int | None = None,
    threads: int | None = None,
    memory_nbytes: int | None = None,
    sources: Mapping[str, Source] | None = None,
) -> Plan:
    """Plan a merge from headers alone; nothing is downloaded or written.

    `sources` maps model references, as the recipe writes them, to sources already open (memory
    sources, for one), which stay open. Findings about the models stand in the plan's `findings`;
    `check()` raises them. The plan holds files open: close it, or use it in a `with`. Raises
    `RecipeError` for a recipe that is wrong in itself, with what is wrong about its models beside.
    """
    from mdm_kit.planner.costs import DEFAULT_MEMORY_NBYTES
    from mdm_kit.planner.planning import DEFAULT_SHARD_NBYTES, default_threads, make_plan

    parsed = None if isinstance(recipe, Recipe) else check_recipe(recipe)
    read = recipe if isinstance(recipe, Recipe) else parsed.recipe if parsed else None
    if read is None:
        raise RecipeError(parsed.render() if parsed else "")
    made = make_plan(
        read,
        shard_nbytes=_at_least_one("shard_nbytes", shard_nbytes, DEFAULT_SHARD_NBYTES),
        threads=_at_least_one("threads", threads, default_threads()),
        memory_nbytes=_at_least_one("memory_nbytes", memory_nbytes, DEFAULT_MEMORY_NBYTES),
        given=sources,
        filename=parsed.filename if parsed else "recipe.yml",
    )
    if parsed:
        made = replace(made, findings=tuple(dict.fromkeys((*parsed.findings, *made.findings))))
    if any(f.kind is Kind.RECIPE and f.level is Level.ERROR for f in made.findings):
        made.close()
        raise RecipeError(made.report())
    return made


def _at_least_one(what: str, given: int | None, default: int) -> int:
    if given is None:
        return default
    if given < 1:
        raise UsageError(f"{what} should be at least 1, found {given}")
    return given


def merge(
    recipe: RecipeLike,
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    memory_nbytes: int | None = None,
    shard_nbytes: int | None = None,
    restart: Restart = "auto",
    overwrite: bool = False,
    hash_sources: bool = False,
    sources: Mapping[str, Source] | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Merge the models of `recipe` into the new folder `out`.

    `restart` is `auto` (take up an interrupted merge of the same plan), `resume` (the same) or
    `fresh` (throw it away). `threads` are worker threads, one per core if None; `memory_nbytes` is
    what their tensors may take, 2 GB if None, and decides which tensors are read once. Raises
    `RecipeError`, `FindingsError` and what `mdm_kit.run.merge.run_plan` raises; `out` is then as it
    was.
    """
    from mdm_kit.run.merge import run_plan

    with plan(
        recipe,
        shard_nbytes=shard_nbytes,
        threads=threads,
        memory_nbytes=memory_nbytes,
        sources=sources,
    ) as made:
        return run_plan(
            made,
            Path(out),
            device=device,
            restart=restart,
            overwrite=overwrite,
            hash_sources=hash_sources,
            progress=progress,
        )


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
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    models: Sequence[Addition],
    *,
    sources: Mapping[str, str | Source] | None = None,
    running: Running | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Merge the merge in the folder `source` with more models, behind those it has, into `out`.

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
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    drop: Sequence[str],
    *,
    mode: Mode = "rebuild",
    reset_coefficients: bool = False,
    sources: Mapping[str, str | Source] | None = None,
    running: Running | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Take the models named in `drop` out of the merge in the folder `source`, into `out`.

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
    source: str | os.PathLike[str],
    name: str,
    out: str | os.PathLike[str],
    *,
    sources: Mapping[str, str | Source] | None = None,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a model of the merge in the folder `source` back to the new folder `out`, bit for bit.

    The merge must keep it (`ledger: {keep: deltas}`), and the base it is kept against must be had.
    Raises `UsageError` for a name the merge does not have, `SourceError` where it does not keep the
    model or the base is gone, `IntegrityError` where what it keeps was changed.
    """
    from mdm_kit.planner.edits import kept_model
    from mdm_kit.planner.planning import default_threads
    from mdm_kit.run.extract import extract as write_back
    from mdm_kit.run.opened_merge import opened_merge

    n_threads = _at_least_one("threads", threads, default_threads())
    with (
        opened_merge(Path(source), sources or {}) as (parents, _),
        kept_model(parents, name) as model,
    ):
        write_back(model, Path(out), n_threads, advance)


def _edited(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    sources: Mapping[str, str | Source] | None,
    running: Running | None,
    progress: Progress | None,
    planned: Callable[[Parents, Products, Settings], Plan],
) -> Merged:
    from mdm_kit.bundle.stage import check_output
    from mdm_kit.planner.costs import DEFAULT_MEMORY_NBYTES, Budget
    from mdm_kit.planner.edits import Settings
    from mdm_kit.planner.planning import DEFAULT_SHARD_NBYTES, default_threads
    from mdm_kit.run.merge import run_plan
    from mdm_kit.run.opened_merge import opened_merge

    how = running or Running()
    check_output(Path(out).absolute(), overwrite=how.overwrite)
    settings = Settings(
        _at_least_one("shard_nbytes", how.shard_nbytes, DEFAULT_SHARD_NBYTES),
        Budget(
            _at_least_one("threads", how.threads, default_threads()),
            _at_least_one("memory_nbytes", how.memory_nbytes, DEFAULT_MEMORY_NBYTES),
        ),
    )
    with (
        opened_merge(Path(source), sources or {}) as (parents, products),
        planned(parents, products, settings) as made,
    ):
        return run_plan(
            made,
            Path(out),
            device=how.device,
            restart=how.restart,
            overwrite=how.overwrite,
            hash_sources=how.hash_sources,
            progress=progress,
        )


def verify(
    folder: str | os.PathLike[str],
    *,
    deep: bool = False,
    sources: Mapping[str, str | Source] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Verified:
    """Read a merged folder once and check every byte, its history, its ledger and its weights.

    `deep` makes the merge again from its models, which `sources` may say the places of, and
    compares. Faults are in the result's `faults`; it is `sound` without any, and `guarantees` then
    says how each model can be taken out. `advance` is told the bytes read and made. Raises
    `SourceError` where there is no manifest or a model cannot be had, `IntegrityError` where the
    manifest does not hold together.
    """
    from mdm_kit.run.deep import remade
    from mdm_kit.run.opened_merge import opened_merge
    from mdm_kit.run.verifying import verify_merge

    found = verify_merge(Path(folder), advance)
    if not deep or not found.sound:
        return found
    with opened_merge(Path(folder), sources or {}) as (parents, products):
        again = remade(parents, products, advance)
    return replace(found, remade=again, faults=again.faults)


def diff(
    a: ModelRef | Source | str | os.PathLike[str],
    b: ModelRef | Source | str | os.PathLike[str],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Difference:
    """Return how model B differs from model A, tensor by tensor, reading both once.

    A model is a folder, a reference as a recipe writes it or an open source, which stays open.
    `progress` hears of bytes read. Raises `UsageError` for what is no reference, `SourceError` and
    `IntegrityError` for a model that cannot be had or contradicts itself; models that differ in
    everything are no error.
    """
    from mdm_kit.planner.planning import default_threads
    from mdm_kit.run.difference import differences
    from mdm_kit.run.matching import matching
    from mdm_kit.run.progress import Silent

    workers = _at_least_one("threads", threads, default_threads())
    told = progress or Silent()
    with ExitStack() as opened:
        first, second = _source(a, "A", opened), _source(b, "B", opened)
        told.start(matching(first, second).nbytes, 0)
        return differences(first, second, workers, told.advance)


def _source(
    model: ModelRef | Source | str | os.PathLike[str], name: str, opened: ExitStack
) -> Source:
    """Return the source of `model`, closed with `opened` unless it was open before."""
    from mdm_kit.sources import open_source

    if isinstance(model, str | os.PathLike):
        model = _reference(model, name)
    return opened.enter_context(open_source(model, name)) if isinstance(model, ModelRef) else model


def _reference(model: str | os.PathLike[str], name: str) -> ModelRef:
    text = os.fspath(model)
    # A folder of this machine is that folder, whatever signs its name holds.
    if not isinstance(model, str) or os.path.isdir(text):  # noqa: PTH112 -- Path raises for some
        return ModelRef(text)
    try:
        return parse_reference(Scalar(text, plain=False))
    except WrongValue as problem:
        raise UsageError(f"model {name}: {shown(str(problem), 400)}") from None
