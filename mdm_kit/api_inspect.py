"""The Python API of inspections: what a recipe's models changed, and advice before merging."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mdm_kit.api import RecipeLike, plan

if TYPE_CHECKING:
    from mdm_kit.run.inspected import Inspection
    from mdm_kit.run.progress import Progress
    from mdm_kit.sources import Source


def inspect_recipe(
    recipe: RecipeLike,
    *,
    threads: int | None = None,
    sources: Mapping[str, Source] | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> Inspection:
    """Return what the models of `recipe` changed of its base, and advice that follows from it.

    Every weight is read once, in constant memory, but for some linear maps that are read again to
    find their directions. `sources` and `download` are those of `plan`. Raises `RecipeError` and
    `FindingsError` as a merge would, `UsageError` where there is nothing to compare,
    `NotFiniteError` for a NaN or an infinity, `SourceError` and `IntegrityError` for a model that
    cannot be had or contradicts itself.
    """
    from mdm_kit.run.inspecting import inspect_plan
    from mdm_kit.run.progress import Silent

    with plan(recipe, threads=threads, sources=sources, download=download) as made:
        return inspect_plan(made, progress or Silent())
