"""What a recipe's tokenizer block says of models, found among the models of the merge."""

from __future__ import annotations

from collections.abc import Sequence

from mdm_kit.planner.survey import Survey
from mdm_kit.recipe import (
    LocatedRef,
    ModelToken,
    Recipe,
    Tokenizer,
    TokenRule,
    Zero,
    did_you_mean,
    nearest,
)
from mdm_kit.vocabulary import Fill, Owner
from mdm_kit.words import Finding, Kind, Level, Place, shown


def whose(recipe: Recipe, asked: Tokenizer, survey: Survey) -> tuple[int, list[Finding]]:
    """Return which of the survey's sources gives the vocabulary, and what is wrong with that."""
    names = [s.name for s in survey.sources]
    if not isinstance(asked.source, LocatedRef):
        return names.index(survey.donor.name), []
    found = _owner(recipe, survey, asked.source)
    if isinstance(found, Finding):
        return 0, [found]
    return found, []


def fills(
    recipe: Recipe, asked: Tokenizer, survey: Survey, owners: Sequence[Owner]
) -> tuple[dict[str, Fill], list[Finding]]:
    """Return the rows of the rules by token, and what is wrong with them."""
    made: dict[str, Fill] = {}
    problems: list[Finding] = []
    for rule in asked.tokens:
        fill = _fill(recipe, rule, survey, owners)
        if isinstance(fill, Finding):
            problems.append(fill)
        elif fill is not None:
            made[rule.token] = fill
    return made, problems


def _fill(
    recipe: Recipe, rule: TokenRule, survey: Survey, owners: Sequence[Owner]
) -> Fill | Finding | None:
    source = rule.source
    if source is None:
        return None
    if isinstance(source, Zero):
        return Fill(None, 0, rule.force)
    model = source.model if isinstance(source, ModelToken) else source
    owner = _owner(recipe, survey, model)
    if isinstance(owner, Finding):
        return owner
    name, ids, rows = survey.sources[owner].name, owners[owner].ids, owners[owner].rows
    token = source.token if isinstance(source, ModelToken) else rule.token
    row = source.token_id if isinstance(source, ModelToken) else None
    if row is None:
        assert token is not None  # noqa: S101 -- a model token has one or the other
        if token not in ids:
            close = did_you_mean(token, ids) if nearest(token, ids) else ""
            message = f"tokenizer.tokens: {name} has no token '{shown(token, 60)}'{close}"
            return _wrong(message, rule.place, "name a model that has it, or {kind: zero}")
        row = ids[token]
    if row >= rows:
        message = (
            f"tokenizer.tokens, '{shown(rule.token, 60)}': {name} has {rows:,} rows and none for "
            f"the id {row}"
        )
        return _wrong(message, rule.place, "name a token with a row, or {kind: zero}")
    return Fill(owner, row, rule.force)


def _owner(recipe: Recipe, survey: Survey, wanted: LocatedRef) -> int | Finding:
    names = [s.name for s in survey.sources]
    if recipe.base_model is not None and survey.base and recipe.base_model.ref == wanted.ref:
        return names.index(survey.base.name)
    for entry in recipe.models:
        if entry.ref == wanted.ref and entry.name in names:
            return names.index(entry.name)
    known = [str(entry.ref) for entry in recipe.models]
    known += [str(recipe.base_model.ref)] if recipe.base_model else []
    message = (
        f"tokenizer: '{shown(str(wanted.ref), 80)}' is neither the base nor a model of this recipe"
        f"{did_you_mean(str(wanted.ref), known)}"
    )
    hint = f"one of {', '.join(shown(k, 80) for k in dict.fromkeys(known))}"
    return _wrong(message, wanted.place, hint)


def _wrong(message: str, place: Place, hint: str) -> Finding:
    return Finding(Level.ERROR, Kind.RECIPE, message, hint, place)
