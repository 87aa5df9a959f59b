"""Builds the result's vocabulary and offers every model's rows in its order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mdm_kit.errors import MdmError
from mdm_kit.planner.patterns import is_embedding
from mdm_kit.planner.row_alignment import Alignment, Placement
from mdm_kit.planner.sums import KEPT_SUMS
from mdm_kit.planner.survey import Survey, Surveyed
from mdm_kit.planner.token_rules import fills, whose
from mdm_kit.recipe import Recipe, Tokenizer
from mdm_kit.sources.aligned import AlignedSource
from mdm_kit.vocabulary import Joined, Owner, Vocabulary, Written, joined, read_vocabulary
from mdm_kit.words import Finding, Kind, Level, human_bytes, shown

if TYPE_CHECKING:
    from mdm_kit.planner.writes import Starting

MANY_TOKENS = 10_000
"""More added tokens make loading and encoding slow, and say that the models are no relatives."""


class Knowledge:
    """The vocabularies of surveyed models, each read once, when somebody asks."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self._shared: dict[str, Vocabulary] = {}
        self._found: dict[str, Vocabulary | MdmError] = {}

    def of(self, model: Surveyed) -> Vocabulary | None:
        """Return a model's vocabulary, None where it cannot be read."""
        if model.name not in self._found:
            try:
                self._found[model.name] = read_vocabulary(model.source, self._shared)
            except MdmError as error:
                self._found[model.name] = error
        found = self._found[model.name]
        return None if isinstance(found, MdmError) else found

    def reason(self, model: Surveyed) -> str:
        """Return why a model's vocabulary cannot be read."""
        return str(self._found[model.name])


@dataclass(frozen=True, slots=True)
class Aligned:
    """The survey with its vocabularies aligned, and what that means for the result.

    `hints` say by a model's name what would make its vocabulary fit, None where a finding does;
    `moved` are the names of tensors whose rows were aligned in some model, `averaged` of those with
    means among their rows.
    """

    survey: Survey
    findings: tuple[Finding, ...] = ()
    written: Written | None = None
    hints: Mapping[str, str | None] = field(default_factory=dict)
    moved: frozenset[str] = frozenset()
    averaged: frozenset[str] = frozenset()


class _Stopped(Exception):
    """Findings that leave nothing to align."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__()
        self.findings = findings


def rows_of(model: Surveyed) -> int | None:
    """Return how many rows a model's embedding has, None for a model without one.

    Of several embeddings that of the config's `vocab_size`, else the longest.
    """
    tensors = model.checkpoint.tensors.values()
    rows = [t.shape[0] for t in tensors if is_embedding(t.name) and len(t.shape) == 2]
    parts = [model.config or {}]
    parts += [v for v in parts[0].values() if isinstance(v, dict)]
    stated = [part.get("vocab_size") for part in parts]
    return next((r for r in rows if r in stated), max(rows, default=None))


def aligned_survey(
    recipe: Recipe,
    asked: Tokenizer,
    survey: Survey,
    known: Knowledge,
    starting: Starting | None,
) -> Aligned:
    """Return the survey with every vocabulary tensor in the rows `asked` for."""
    try:
        return _aligned(recipe, asked, survey, known, starting)
    except _Stopped as stop:
        said = dict.fromkeys(s.name for s in survey.sources) if stop.findings else {}
        return Aligned(survey, stop.findings, hints=said)


def _aligned(
    recipe: Recipe,
    asked: Tokenizer,
    survey: Survey,
    known: Knowledge,
    starting: Starting | None,
) -> Aligned:
    sources = survey.sources
    vocabularies, found = _vocabularies(asked, survey, known)
    owner, problems = whose(recipe, asked, survey)
    if problems:
        raise _Stopped(*found, *problems)
    donor = sources[owner]
    tokens = [rule.token for rule in asked.tokens]
    union = asked.source == "union"
    result = joined(donor.name, vocabularies, union=union, tokens=tokens)
    found += _addable(asked, donor, result)
    owners = [Owner(vocabularies[s.name].ids, rows_of(s) or 0) for s in sources]
    rules, problems = fills(recipe, asked, survey, owners)
    if problems:
        raise _Stopped(*found, *problems)
    base = None if survey.base is None else [s.name for s in sources].index(survey.base.name)
    n_rows = _n_rows(asked, result, owners, owner)
    alignment = Alignment(
        sources, Placement(result.vocabulary, tuple(owners), rules, n_rows, owner, base)
    )
    found += [*_rowless(asked, owners), *_costs(asked, alignment)]
    if odd := alignment.unaligned:
        raise _Stopped(*found, _odd(asked, odd))
    moved = alignment.moved
    if moved and (recipe.ledger == KEPT_SUMS or starting is not None):
        raise _Stopped(*found, _no_sums(recipe, asked, starting))
    swapped = {s.name: _offered(s, alignment) for s in sources}
    models = tuple(swapped[s.name] for s in survey.models)
    whole = replace(survey, models=models, base=survey.base and swapped[survey.base.name])
    replaced = vocabularies[survey.donor.name] if donor is not survey.donor else None
    written = Written(donor.name, result.vocabulary, result.new, None, replaced)
    return Aligned(whole, tuple(found), written, {}, moved, alignment.averaged)


def _offered(model: Surveyed, alignment: Alignment) -> Surveyed:
    """Return a model as it is offered from now on."""
    tensors = alignment.tensors_of(model)
    if not tensors:
        return model
    by_own = {t.info.name: t for t in tensors.values()}
    source = AlignedSource(model.source, by_own, owned=not model.lent)
    infos = {n: t.info for n, t in tensors.items()}
    stored = {
        info.name: model.checkpoint.tensors[n].dtype
        for n, info in infos.items()
        if model.checkpoint.tensors[n].dtype != info.dtype
    }
    text = "\n".join(f"{n} {t.info.dtype} {t.rows.digest}" for n, t in sorted(tensors.items()))
    return replace(
        model,
        source=source,
        checkpoint=replace(model.checkpoint, tensors={**model.checkpoint.tensors, **infos}),
        lent=False,
        alignment="sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        stored={**stored, **model.stored},
    )


def _vocabularies(
    asked: Tokenizer, survey: Survey, known: Knowledge
) -> tuple[dict[str, Vocabulary], list[Finding]]:
    """Return every model's vocabulary; one that cannot be read is the donor's, where rows agree."""
    donor = survey.donor
    base = known.of(donor)
    if base is None:
        if asked.is_plain and len({rows_of(s) for s in survey.sources}) == 1:
            raise _Stopped()  # the word says what happens anyway
        message = f"tokenizer: the vocabulary of {donor.name} cannot be read: {known.reason(donor)}"
        raise _Stopped(Finding(Level.ERROR, Kind.MISFIT, message, place=asked.place))
    found: dict[str, Vocabulary] = {}
    findings: list[Finding] = []
    for model in survey.sources:
        own = known.of(model)
        if own is None and rows_of(model) != rows_of(donor):
            message = (
                f"the vocabulary of {model.name} cannot be read, and its embedding has "
                f"{rows_of(model)} rows where {donor.name} has {rows_of(donor)}: "
                f"{known.reason(model)}"
            )
            findings.append(Finding(Level.ERROR, Kind.MISFIT, message, place=model.place))
        elif own is None:
            message = f"{model.name} is taken to have the vocabulary of {donor.name}"
            hint = known.reason(model)
            findings.append(Finding(Level.WARNING, Kind.MISFIT, message, hint, model.place))
        found[model.name] = own or base
    if any(f.level is Level.ERROR for f in findings):
        raise _Stopped(*findings)
    return found, findings


def _addable(asked: Tokenizer, donor: Surveyed, result: Joined) -> list[Finding]:
    """Return what keeps tokens from being added, and what comes of adding very many."""
    if not result.new:
        return []
    if result.vocabulary.file != "tokenizer.json":
        message = (
            f"{len(result.new):,} tokens would have to be added to the tokenizer of {donor.name}, "
            f"which is read from {shown(result.vocabulary.file)} and not from a tokenizer.json"
        )
        hint = "load it with transformers' AutoTokenizer and save it again: that writes one"
        raise _Stopped(Finding(Level.ERROR, Kind.MISFIT, message, hint, asked.place))
    if len(result.new) < MANY_TOKENS:
        return []
    message = (
        f"{len(result.new):,} tokens are added to those of {donor.name}; a tokenizer with so many "
        "loads slowly, and pieces of words that are added are found only where they stand alone"
    )
    hint = "models of different families share few tokens; {source: base} keeps the base's"
    return [Finding(Level.WARNING, Kind.MISFIT, message, hint, asked.place)]


def _n_rows(asked: Tokenizer, result: Joined, owners: Sequence[Owner], donor: int) -> int:
    """Return how many rows the result has: those there are, and what tokens need besides."""
    here = owners[donor].rows
    tokens = result.vocabulary.ids
    new = {t.content for t in result.new}
    beyond = [
        i + 1
        for token, i in tokens.items()
        if i >= here and (token in new or any(o.ids.get(token, o.rows) < o.rows for o in owners))
    ]
    n = max([here, *beyond])
    multiple = asked.pad_to_multiple_of or 1
    return math.ceil(n / multiple) * multiple


def _rowless(asked: Tokenizer, owners: Sequence[Owner]) -> list[Finding]:
    """Return a warning for tokens that nobody has a row for and the recipe names none for."""
    new = [r for r in asked.tokens if r.source is None]
    new = [r for r in new if not any(o.ids.get(r.token, o.rows) < o.rows for o in owners)]
    return [
        Finding(
            Level.WARNING,
            Kind.RECIPE,
            f"tokenizer.tokens: no model has '{shown(r.token, 60)}', so its row is zeros",
            "give it a source: {kind: model_token, model: ..., token: ...}",
            r.place,
        )
        for r in new
    ]


def _odd(asked: Tokenizer, names: Sequence[str]) -> Finding:
    first = shown(names[0], 80)
    message = (
        f"{first} has not as many rows as its model's embedding, so it cannot be aligned with it"
    )
    hint = "merge models with one vocabulary, which needs no tokenizer block"
    return Finding(Level.ERROR, Kind.MISFIT, message, hint, asked.place)


def _costs(asked: Tokenizer, alignment: Alignment) -> list[Finding]:
    """Return a note where tensors go through temporary files."""
    nbytes = alignment.copied_nbytes
    if not nbytes:
        return []
    message = (
        f"rows in another order are read through temporary files of {human_bytes(nbytes)}, "
        "fetched once"
    )
    hint = "TMPDIR says where they lie"
    return [Finding(Level.NOTE, Kind.MISFIT, message, hint, asked.place)]


def _no_sums(recipe: Recipe, asked: Tokenizer, starting: Starting | None) -> Finding:
    if starting is None:
        message = (
            f"ledger: {{keep: {KEPT_SUMS}}} keeps sums to go on from, and rows that are aligned "
            "lie elsewhere as soon as another model joins"
        )
        hint = "keep references or deltas; then models are added and taken out by merging anew"
        place = recipe.place_of("ledger")
        return Finding(Level.ERROR, Kind.RECIPE, message, hint, place)
    message = "the vocabulary of the model that joins differs from that of the sums it would join"
    hint = "write a recipe with all models, without ledger: {keep: state}, and merge that"
    return Finding(Level.ERROR, Kind.MISFIT, message, hint, asked.place)
