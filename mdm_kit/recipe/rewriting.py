"""A recipe's text with its model references replaced, and every other character untouched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.errors import RecipeError
from mdm_kit.recipe.quoting import quoted
from mdm_kit.recipe.reading import read_recipe_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from mdm_kit.recipe.model import Recipe
    from mdm_kit.words import ModelRef


def rewrite_references(recipe: Recipe, new: Callable[[ModelRef], str]) -> str:
    """Return the recipe's text with each model reference replaced by what `new` makes of it.

    Comments, order and everything else stay. Raises RecipeError where the result would not hold
    exactly the new references in the old places: when `new` returns what is no reference, or
    when an alias or merge key elsewhere needs what stood inside a replaced one.
    """
    wanted = [quoted(new(located.ref)) for located in recipe.references]
    by_span = {r.span: w for r, w in zip(recipe.references, wanted, strict=True)}
    pieces: list[str] = []
    done = 0
    for (start, stop), replacement in sorted(by_span.items()):
        if start >= done:  # what starts earlier stands inside a reference replaced as a whole
            pieces += recipe.text[done:start], replacement
            done = stop
    text = "".join(pieces) + recipe.text[done:]
    again = read_recipe_text(text).recipe
    written = [] if again is None else [text[slice(*r.span)] for r in again.references]
    if written != wanted:
        raise RecipeError(
            "the model references of this recipe cannot be replaced one by one; "
            "write them out where aliases or merge keys stand for them"
        )
    return text
