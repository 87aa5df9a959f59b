"""Vocabularies of a plan: read, compared, and brought into one order where the recipe says so.

Without a word in the recipe rows are merged by their ids, as they lie. That gives garbage where one
token has two ids, in silence, so it is an error here; the finding names the lines that mend it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from mdm_kit.errors import MdmError
from mdm_kit.planner.aligning import Aligned, Knowledge, aligned_survey, rows_of
from mdm_kit.planner.survey import Survey, Surveyed
from mdm_kit.recipe import AUTO, Recipe
from mdm_kit.vocabulary import Vocabulary, Written, named_template, template_of
from mdm_kit.words import Finding, Kind, Level, shown

if TYPE_CHECKING:
    from mdm_kit.planner.writes import Starting

UNION = "tokenizer: {source: union}"
BASE = "tokenizer: {source: base}"
_SHOWN = 3


def align(recipe: Recipe, surveyed: Survey, starting: Starting | None) -> Aligned:
    """Return the surveyed models with the vocabulary the recipe asks for.

    Where some could not be opened, nothing is read. Raises nothing a model could cause.
    """
    whole = starting is not None or len(surveyed.models) == len(recipe.models)
    missing = recipe.base_model is not None and surveyed.base is None
    if not surveyed.sources or not whole or missing:
        return Aligned(surveyed)
    known = Knowledge()
    if recipe.mixture is not None:  # experts give no row of tokens
        aligned = Aligned(surveyed)
    elif recipe.tokenizer is None:
        found, hints = _compared(recipe, surveyed, known)
        aligned = Aligned(surveyed, tuple(found), hints=hints)
    else:
        aligned = aligned_survey(recipe, recipe.tokenizer, surveyed, known, starting)
    return _with_template(recipe, aligned)


def _compared(
    recipe: Recipe, surveyed: Survey, known: Knowledge
) -> tuple[list[Finding], dict[str, str | None]]:
    """Return what is wrong with merging rows as they lie, and what would mend each model.

    Of slices and modules a model may give only layers, whose rows of tokens nobody takes, and
    embeddings of other lengths may be left to `on_mismatch`: then it is a warning.
    """
    donor = surveyed.donor
    base = known.of(donor)
    found: list[Finding] = []
    hints: dict[str, str | None] = {}
    for other in surveyed.sources:
        if other is donor:
            continue
        theirs = known.of(other)
        if base is None or theirs is None:
            who = donor if base is None else other
            hints[other.name] = (
                f"their vocabularies differ, and that of {who.name} cannot be read: "
                f"{known.reason(who)}"
            )
            continue
        hints[other.name] = _hint(base, theirs)
        differences = _differences(donor, other, base, theirs)
        left = recipe.on_mismatch != "error" and rows_of(donor) != rows_of(other)
        if recipe.modules or left:
            differences = [replace(f, level=Level.WARNING) for f in differences]
        elif any(f.level is Level.ERROR for f in differences):
            hints[other.name] = None
        found += differences
    return found, hints


def _hint(base: Vocabulary, theirs: Vocabulary) -> str:
    """Return the lines that would make a model fit."""
    more = theirs.beyond(base)
    if more:
        return (
            f"write {UNION} to align rows by token and keep {_tokens(more)}, or {BASE} to leave "
            "them out"
        )
    return f"write {BASE} to align rows by token; the base has every token of it"


def _differences(
    donor: Surveyed, other: Surveyed, base: Vocabulary, theirs: Vocabulary
) -> list[Finding]:
    rows = min(rows_of(donor) or base.end, rows_of(other) or theirs.end)
    moved = [t for t in base.moved(theirs) if min(base.ids[t], theirs.ids[t]) < rows]
    if moved:
        first = moved[0]
        message = (
            f"{len(moved):,} token{'s' * (len(moved) > 1)} of {other.name} have other ids than in "
            f"{donor.name}: {shown(first, 40)!r} is {theirs.ids[first]} and {base.ids[first]}; "
            "row by row, different tokens would be merged into one another"
        )
        return [Finding(Level.ERROR, Kind.MISFIT, message, _hint(base, theirs), other.place)]
    more = [t for t in theirs.beyond(base) if theirs.ids[t] < rows]
    if not more:
        return []
    at = base.by_id
    renamed = [t for t in more if theirs.ids[t] in at]
    message = f"{other.name} has {_tokens(more)} that the result's tokenizer will not know"
    if renamed:
        first = renamed[0]
        message += (
            f"; {shown(first, 40)!r} lies where {donor.name} has "
            f"{shown(at[theirs.ids[first]], 40)!r}, and their rows are merged"
        )
    hint = f"write {UNION} to keep them; {BASE} to align what both have and say no more of it"
    return [Finding(Level.WARNING, Kind.MISFIT, message, hint, other.place)]


def _tokens(tokens: list[str]) -> str:
    some = ", ".join(repr(shown(t, 40)) for t in tokens[:_SHOWN])
    rest = f" and {len(tokens) - _SHOWN:,} more" if len(tokens) > _SHOWN else ""
    return f"{len(tokens):,} token{'s' * (len(tokens) > 1)} ({some}{rest})"


def _with_template(recipe: Recipe, aligned: Aligned) -> Aligned:
    """Return what is aligned with the chat template of the recipe, and a note where they differ."""
    survey = aligned.survey
    texts = {s.name: text for s in survey.sources if (text := _template(s)) is not None}
    written = aligned.written or Written(survey.donor.name)
    own = texts.get(written.donor)
    if recipe.chat_template is None:
        others = [n for n, t in texts.items() if t.strip() != (own or "").strip()]
        if not others:
            return aligned
        has = f"that of {written.donor}" if own is not None else "none"
        message = (
            f"the chat templates of {', '.join(map(shown, others))} differ from the result's, "
            f"which has {has}"
        )
        hint = "chat_template: auto takes the one most models have"
        note = Finding(Level.NOTE, Kind.MISFIT, message, hint)
        return replace(aligned, findings=(*aligned.findings, note))
    wanted = recipe.chat_template
    text = named_template(wanted.text) or wanted.text
    if wanted.text == AUTO:
        counted = Counter(t.strip() for t in texts.values())
        if not counted:
            message = "chat_template: no model has a chat template, so the result has none either"
            note = Finding(Level.WARNING, Kind.MISFIT, message, place=wanted.place)
            return replace(aligned, findings=(*aligned.findings, note))
        text = counted.most_common(1)[0][0]
    if own is not None and own.strip() == text.strip():
        return aligned
    return replace(aligned, written=replace(written, chat_template=text))


def _template(model: Surveyed) -> str | None:
    try:
        return template_of(model.source)
    except MdmError:
        return None  # a file that is no JSON is the merge's to refuse, if it is copied
