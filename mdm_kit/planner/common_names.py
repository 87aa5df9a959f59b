"""Models brought under the names of the one that gives the result its names.

A tensor keeps the name it has in its own file (`TensorInfo.name`, by which it is read) and gets
the donor's as the key it is looked up by. That is how a text model meets the language part of a
vision-language model, and how a head that is tied is read from the embedding it is tied to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from mdm_kit.planner.matrices import ties
from mdm_kit.planner.patterns import is_embedding, is_head
from mdm_kit.planner.sections import Section
from mdm_kit.planner.survey import Survey, Surveyed
from mdm_kit.planner.towers import Matching, Rule, matching
from mdm_kit.words import DTYPES, Finding, Kind, Level, TensorInfo, counted, shown, some

Tensors = Mapping[str, TensorInfo]


def under_common_names(survey: Survey) -> tuple[Survey, list[Finding]]:
    """Return the models of a survey under the donor's names, and what a person should know of it.

    What is provably the same is brought together: parts that differ by their prefix, and a tied
    head with one that is not.
    """
    if not survey.sources:
        return survey, []
    others = [_renamed(s, survey.donor) for s in survey.sources if s is not survey.donor]
    donor = _with_heads(survey.donor, others)
    models = {s.name: headed(s, donor.checkpoint.tensors) for s in others}
    models[donor.name] = donor
    base = survey.base and models[survey.base.name]
    everyone = tuple(models[s.name] for s in survey.models)
    notes = [note for other in others for note in _renamings(other, donor)]
    return replace(survey, models=everyone, base=base), notes


def agreed(sections: Sequence[Section], on_mismatch: str) -> tuple[list[Section], list[Finding]]:
    """Return sections whose models differ no more than they may, and what becomes of the rest.

    Towers that some model lacks are copied from the donor (`Survey.passed`), towers that only
    another model has are left out. Everything else stays as it is, for `agreement` to judge; or,
    with `on_mismatch` base or skip, is copied from the donor as well, or merged of those models
    that have it (`Survey.partial`).
    """
    found, notes = [], []
    for section in sections:
        survey, more = _agreed(section.survey, on_mismatch)
        found.append(replace(section, survey=survey))
        notes += more
    return found, notes


def _agreed(survey: Survey, on_mismatch: str) -> tuple[Survey, list[Finding]]:
    donor, models = survey.donor, {s.name: s for s in survey.sources}
    lacking: set[str] = set()
    notes: list[Finding] = []
    for other in survey.sources:
        if other is donor:
            continue
        if on_mismatch == "error":
            kept, lacked = _without_towers(other, donor)
        else:
            kept, lacked = _fitting(other, donor)
        models[other.name] = kept
        lacking.update(lacked)
        notes += _told(kept, lacked, donor, on_mismatch)
    base = survey.base and models[survey.base.name]
    found = replace(survey, models=tuple(models[s.name] for s in survey.models), base=base)
    if on_mismatch == "skip":
        return replace(found, partial=frozenset(lacking)), notes
    return replace(found, passed=frozenset(lacking)), notes


def headed(model: Surveyed, names: Collection[str]) -> Surveyed:
    """Return a model that ties its head with every head of `names` it does not store.

    Such a head is read from the one embedding there is. A model that stores the head, or does not
    say that it is tied, is returned as it is.
    """
    tensors = model.checkpoint.tensors
    lacking = [name for name in names if is_head(name) and name not in tensors]
    embedding = _only_embedding(tensors)
    if not lacking or embedding is None or not ties(model.config):
        return model
    untied = replace(model, config=_untied(model.config or {}))
    return _with(untied, {**tensors, **dict.fromkeys(lacking, embedding)})


def _renamed(other: Surveyed, donor: Surveyed) -> Surveyed:
    own, names = other.checkpoint.tensors, donor.checkpoint.tensors
    if own.keys() == names.keys():
        return other
    found = matching(_shapes(own), _shapes(names))
    if found is None:
        return other
    tensors = {found.names.get(name) or _moved(name, found): info for name, info in own.items()}
    if len(tensors) < len(own):  # a name that is not matched is that of a matched one
        return other
    return replace(_with(other, tensors), inside=found)


def _moved(name: str, found: Matching) -> str:
    """Return what a head would be called in the other model, any other name as it is."""
    if not is_head(name):
        return name
    return next((there for rule in found.rules if (there := rule.of(name))), name)


def _with_heads(donor: Surveyed, others: Sequence[Surveyed]) -> Surveyed:
    """Return a donor that ties its head with one of its own, where another model has one."""
    tensors = donor.checkpoint.tensors
    embedding = _only_embedding(tensors)
    if embedding is None or not ties(donor.config) or any(map(is_head, tensors)):
        return donor
    heads: dict[str, None] = {}
    for other in others:
        if not ties(other.config):
            heads |= dict.fromkeys(filter(is_head, other.checkpoint.tensors))
    if len(heads) != 1:
        return donor
    untied = replace(donor, config=_untied(donor.config or {}))
    return _with(untied, {**tensors, **dict.fromkeys(heads, embedding)})


def _untied(config: Mapping[str, object]) -> dict[str, object]:
    """Return a config that ties nothing, in none of its parts."""
    parts = {k: _untied(v) if isinstance(v, Mapping) else v for k, v in config.items()}
    return {**parts, "tie_word_embeddings": False}


def _only_embedding(tensors: Tensors) -> TensorInfo | None:
    found = [info for name, info in tensors.items() if is_embedding(name)]
    return found[0] if len(found) == 1 else None


def _without_towers(model: Surveyed, donor: Surveyed) -> tuple[Surveyed, tuple[str, ...]]:
    """Return a model without towers the donor does not have, and the donor's that it lacks."""
    own, names, found = model.checkpoint.tensors, donor.checkpoint.tensors, model.inside
    lacked = tuple(name for name in names if name not in own)
    extra = tuple(name for name in own if name not in names)
    if found is None or any(map(is_head, lacked)):
        return model, ()
    if lacked and not found.beside(lacked, other=True):
        return model, ()
    if not extra:
        return model, lacked
    if ties(model.config):
        # A head that is stored although it is tied is another copy of the embedding.
        extra = tuple(name for name in extra if not is_head(name))
    if any(map(is_head, extra)) or (extra and not found.beside(extra, other=False)):
        return model, ()
    return _dropping(model, [name for name in own if name not in names]), lacked


def _fitting(model: Surveyed, donor: Surveyed) -> tuple[Surveyed, tuple[str, ...]]:
    """Return a model with the tensors that agree with the donor's alone, and what it lacks then."""
    own, names = model.checkpoint.tensors, donor.checkpoint.tensors
    kept = {n for n, want in names.items() if n in own and _agree(want, own[n])}
    lacked = tuple(n for n in names if n not in kept)
    return _dropping(model, [n for n in own if n not in kept]), lacked


def _agree(want: TensorInfo, got: TensorInfo) -> bool:
    mixes = DTYPES[want.dtype].merges and DTYPES[got.dtype].merges
    return want.shape == got.shape and (want.dtype == got.dtype or mixes)


def _dropping(model: Surveyed, names: Collection[str]) -> Surveyed:
    gone = set(names)
    tensors = {n: info for n, info in model.checkpoint.tensors.items() if n not in gone}
    unused = tuple(model.checkpoint.tensors[name].name for name in names)
    return replace(_with(model, tensors), unused=(*model.unused, *unused))


def _with(model: Surveyed, tensors: Tensors) -> Surveyed:
    return replace(model, checkpoint=replace(model.checkpoint, tensors=tensors))


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: info.shape for name, info in tensors.items()}


def _renamings(model: Surveyed, donor: Surveyed) -> list[Finding]:
    rules = [r for r in model.inside.rules if r.own != r.other] if model.inside else []
    if not rules:
        return []
    listed = ", ".join(map(_renaming, rules))
    text = f"{shown(model.name)} is found in {shown(donor.name)} under other names: {listed}"
    return [_note(model, text)]


def _told(
    model: Surveyed, lacked: Sequence[str], donor: Surveyed, on_mismatch: str
) -> list[Finding]:
    name, notes = shown(model.name), []
    if lacked:
        become, hint = f"copied from {shown(donor.name)}", ""
        if on_mismatch == "skip":
            become = "merged without it"
        else:
            hint = "on_mismatch: skip merges them of the models that have them"
        what = f"{counted(len(lacked), 'tensor')} of {shown(donor.name)} that {name} has no part of"
        what += "" if on_mismatch == "error" else ", or in another shape"
        notes.append(_note(model, f"{what}, {become}: {some(lacked)}", hint))
    if model.unused:
        what = f"{counted(len(model.unused), 'tensor')} of {name} left out"
        why = f"{shown(donor.name)} has no part of that kind"
        notes.append(_note(model, f"{what}, {why}: {some(model.unused)}"))
    return notes


def _note(model: Surveyed, text: str, hint: str = "") -> Finding:
    return Finding(Level.NOTE, Kind.MISFIT, text, hint, model.place)


def _renaming(rule: Rule) -> str:
    own, there = shown(rule.own, 80), shown(rule.other, 80)
    if not own:
        return f"behind '{there}'"
    return f"with '{there}' for '{own}'" if there else f"without '{own}'"
