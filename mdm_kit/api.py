"""The Python API: the same verbs as the command line, with typed results."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mdm_kit.errors import RecipeError, UsageError
from mdm_kit.recipe import Parsed, Push, Recipe, load_recipe_file, read_recipe_text
from mdm_kit.words import Finding, Kind, Level

if TYPE_CHECKING:
    from mdm_kit.bundle.verify import Verified
    from mdm_kit.planner.plan import Plan
    from mdm_kit.run.merge import Merged, Restart
    from mdm_kit.run.outlet import Published
    from mdm_kit.run.progress import Progress
    from mdm_kit.sources import Site, Source

PushLike = Push | str | bool
"""Where to push: settings, a repository, or True for the recipe's own settings."""
RecipeLike = Recipe | str | os.PathLike[str]
Compat = Literal["mergekit"]
"""A tool whose arithmetic a merge can repeat, to come out as it did there."""


def check_recipe(recipe: str | os.PathLike[str]) -> Parsed:
    """Return a recipe and everything wrong with it: its YAML, its keys, its method's parameters.

    `recipe` is the path of a file, or YAML text if it is a `str` of more than one line.
    """
    from mdm_kit.planner.recipe_checks import recipe_findings

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
    download: bool = False,
) -> Plan:
    """Plan a merge from headers alone; nothing is downloaded or written.

    Weights on the Hub are fetched as they are read and kept nowhere; with `download` they go
    through its client's cache, whole.

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
        download=download,
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
    download: bool = False,
    progress: Progress | None = None,
    push: PushLike | None = None,
    no_local: bool = False,
) -> Merged:
    """Merge the models of `recipe` into the new folder `out`.

    `restart` is `auto` (take up an interrupted merge of the same plan), `resume` (the same) or
    `fresh` (throw it away). `threads` are worker threads, one per core if None; `memory_nbytes` is
    what their tensors may take, 2 GB if None, and decides which tensors are read once. `compat` and
    `download` are those of `plan`. `push` publishes the result as well, to a repository, with a
    `Push` or, for True, as the recipe says; shards are uploaded while the merge runs. With
    `no_local` nothing is kept here, and two shards take room on disk at most. Raises `RecipeError`,
    `FindingsError` and what `mdm_kit.run.merge.run_plan` and `mdm_kit.push` raise; `out` is then as
    it was, or finished where only the push failed.
    """
    from mdm_kit.run.merge import run_plan

    if no_local and not push:
        raise UsageError("no_local keeps nothing here, so the merge must be pushed: give push, too")
    with plan(
        recipe,
        shard_nbytes=shard_nbytes,
        threads=threads,
        memory_nbytes=memory_nbytes,
        sources=sources,
        compat=compat,
        download=download,
    ) as made:
        run = partial(run_plan, made, Path(out))
        if push:
            from mdm_kit.publish.merging import merge_and_push

            target = push_of(made.recipe, push)
            run = partial(merge_and_push, made, Path(out), target, local=not no_local)
        return run(
            device=device,
            restart=restart,
            overwrite=overwrite,
            hash_sources=hash_sources,
            progress=progress,
        )


def push_of(recipe: Recipe, asked: PushLike) -> Push:
    """Return where and how to push: what is asked, the rest as the recipe's `push` says.

    Raises `UsageError` where neither names a repository.
    """
    if isinstance(asked, Push):
        return asked
    if isinstance(asked, str):
        return replace(recipe.push, repo=asked) if recipe.push else Push(asked)
    if recipe.push is None:
        raise UsageError(
            "expected a repository to push to, found none: name one, as you/name, or write "
            "push: {repo: you/name} in the recipe"
        )
    return recipe.push


def push(
    source: str | os.PathLike[str],
    repo: str | Push,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str | None = None,
    supersedes: str | None = None,
    progress: Progress | None = None,
) -> Published:
    """Publish the merged folder `source` as the model `repo` on the Hub, in one commit.

    Every byte is checked first. A new repository is private unless `private` is False; one that
    exists keeps its visibility, and it is an error to ask for the other. `revision` is a branch,
    made if missing; `message` the commit's title. `supersedes` is an older repository that held the
    merge before models were taken out of it; its card then leads to this one. Nothing is sent or
    committed where the branch holds the same already. Raises `SourceError` where the Hub or its
    login refuses, `IntegrityError` for a folder that was changed, `UsageError` for names that
    cannot be, a branch with a model mdm_kit did not write, and secrets in the files.
    """
    from mdm_kit.publish.pushing import push_folder
    from mdm_kit.run.progress import Silent

    target = repo if isinstance(repo, Push) else Push(repo, private, revision, message)
    return push_folder(Path(source), target, progress or Silent(), supersedes)


def push_findings(
    repo: str, *, revision: str | None = None, private: bool | None = None
) -> tuple[Finding, ...]:
    """Return what would keep a push to `repo` from happening, nothing where all is well.

    Asks the Hub who is logged in and may write; nothing is changed.
    """
    from mdm_kit.publish.access import push_findings as find

    return find(repo, revision, private)


def with_push_findings(made: Plan, repo: str | None = None) -> Plan:
    """Return a plan that also says what would keep its result from being published.

    Asked for `repo`, or for the repository of the recipe's `push`; without one the plan as it is.
    """
    if repo is None and made.recipe.push is None:
        return made
    from mdm_kit.publish.access import push_findings as find

    target = push_of(made.recipe, repo or True)
    place = made.recipe.place_of("push") if repo is None else None
    found = find(
        target.repo,
        target.revision,
        target.private,
        place,
        keeps_models=made.recipe.keeps_files,
        private_because=made.terms.private_because,
    )
    return replace(made, findings=(*made.findings, *found))


def verify(
    source: str | os.PathLike[str] | Site,
    *,
    deep: bool = False,
    sources: Mapping[str, str | Source] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Verified:
    """Check a finished merge, its history, ledger, sums and weights; `source` says where it is.

    A folder is read once, every byte of it. Of a repository `owner/name[@revision]` no weight is
    downloaded: headers are read, and the Hub's own digests compared, `n_declared` of them.
    `deep` makes the merge again from its models, which `sources` may say the places of, and
    compares. Faults are in the result's `faults`; it is `sound` without any, and `guarantees` then
    says how each model can be taken out. `advance` is told the bytes read and made. Raises
    `SourceError` where there is no manifest or a model cannot be had, `IntegrityError` where the
    manifest does not hold together.
    """
    from mdm_kit.run.deep import remade
    from mdm_kit.run.opened_merge import opened_merge
    from mdm_kit.run.verifying import verify_merge
    from mdm_kit.sources import open_site

    site = open_site(source)
    found = verify_merge(site, advance)
    if not deep or not found.sound:
        return found
    with opened_merge(site, sources or {}) as (parents, products):
        again = remade(parents, products, advance)
    return replace(found, remade=again, faults=again.faults)
