"""The Python API: the same verbs as the command line, with typed results."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mdm_kit.errors import RecipeError, UsageError
from mdm_kit.recipe import Parsed, Recipe, load_recipe_file, read_recipe_text
from mdm_kit.words import Kind, Level

if TYPE_CHECKING:
    from mdm_kit.bundle.verify import Verified
    from mdm_kit.planner.plan import Plan
    from mdm_kit.run.merge import Merged, Restart
    from mdm_kit.run.progress import Progress
    from mdm_kit.sources import Source

RecipeLike = Recipe | str | os.PathLike[str]
Compat = Literal["mergekit"]
"""A tool whose arithmetic a merge can repeat, to come out as it did there."""


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
    compat: Compat | None = None,
) -> Plan:
    """Plan a merge from headers alone; nothing is downloaded or written.

    `sources` maps model references, as the recipe writes them, to sources already open (memory
    sources, for one), which stay open. `compat="mergekit"` plans the arithmetic of mergekit 0.1.5,
    every step in the recipe's `dtype`, in place of one rounding at the end. Findings about the
    models stand in the plan's `findings`; `check()` raises them. The plan holds files open: close
    it, or use it in a `with`. Raises `RecipeError` for a recipe that is wrong in itself, with what
    is wrong about its models beside.
    """
    from mdm_kit.planner.costs import DEFAULT_MEMORY_NBYTES
    from mdm_kit.planner.planning import DEFAULT_SHARD_NBYTES, default_threads, make_plan

    if compat not in (None, "mergekit"):
        raise UsageError(f"compat should be mergekit, found {compat!r}")
    parsed = None if isinstance(recipe, Recipe) else check_recipe(recipe)
    read = recipe if isinstance(recipe, Recipe) else parsed.recipe if parsed else None
    if read is None:
        raise RecipeError(parsed.render() if parsed else "")
    made = make_plan(
        read,
        shard_nbytes=at_least_one("shard_nbytes", shard_nbytes, DEFAULT_SHARD_NBYTES),
        threads=at_least_one("threads", threads, default_threads()),
        memory_nbytes=at_least_one("memory_nbytes", memory_nbytes, DEFAULT_MEMORY_NBYTES),
        given=sources,
        filename=parsed.filename if parsed else "recipe.yml",
        compat=compat is not None,
    )
    if parsed:
        made = replace(made, findings=tuple(dict.fromkeys((*parsed.findings, *made.findings))))
    if any(f.kind is Kind.RECIPE and f.level is Level.ERROR for f in made.findings):
        made.close()
        raise RecipeError(made.report())
    return made


def at_least_one(what: str, given: int | None, default: int) -> int:
    """Return `given`, or the default for None; raises `UsageError` for less than 1."""
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
    compat: Compat | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Merge the models of `recipe` into the new folder `out`.

    `restart` is `auto` (take up an interrupted merge of the same plan), `resume` (the same) or
    `fresh` (throw it away). `threads` are worker threads, one per core if None; `memory_nbytes` is
    what their tensors may take, 2 GB if None, and decides which tensors are read once. `compat` is
    that of `plan`. Raises `RecipeError`, `FindingsError` and what `mdm_kit.run.merge.run_plan`
    raises; `out` is then as it was.
    """
    from mdm_kit.run.merge import run_plan

    with plan(
        recipe,
        shard_nbytes=shard_nbytes,
        threads=threads,
        memory_nbytes=memory_nbytes,
        sources=sources,
        compat=compat,
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
