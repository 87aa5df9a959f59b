"""A survey: the recipe's models opened, their headers and configs read, nothing else touched."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count

from mdm_kit.errors import IntegrityError, MdmError
from mdm_kit.recipe import Recipe
from mdm_kit.sources import Checkpoint, Source, open_source
from mdm_kit.words import Finding, Kind, Level, ModelRef, Place, shown


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One model of a recipe: its source, its headers, its config, where the recipe names it.

    A `lent` source was open before and stays open; the others are closed with the survey.
    """

    name: str
    source: Source
    checkpoint: Checkpoint
    config: Mapping[str, object] | None
    place: Place
    lent: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """The models of a recipe in its order, the base among them or beside them."""

    models: tuple[Surveyed, ...]
    base: Surveyed | None
    findings: tuple[Finding, ...]

    @property
    def sources(self) -> tuple[Surveyed, ...]:
        """Return every distinct model once: the base first, then the others in recipe order."""
        found = ([self.base] if self.base else []) + list(self.models)
        return tuple({s.name: s for s in found}.values())

    @property
    def donor(self) -> Surveyed:
        """The model that gives names, config and tokenizer: the base, else the first model."""
        return self.base or self.models[0]

    def close(self) -> None:
        """Close every source."""
        for surveyed in self.sources:
            if not surveyed.lent:
                surveyed.source.close()


def surveyed(name: str, source: Source, *, owned: bool = False) -> Surveyed:
    """Return an open source as a survey does; an `owned` one is closed with the plan."""
    checkpoint = _under(name, source.headers())
    return Surveyed(name, source, checkpoint, _config(source), Place(1, 1), not owned)


class _Opener:
    """Opens sources and collects what goes wrong instead of raising."""

    def __init__(self, given: Mapping[str, Source]) -> None:
        self.given = given
        self.findings: list[Finding] = []

    def open(self, ref: ModelRef, name: str, place: Place) -> Surveyed | None:
        lent = self.given.get(str(ref))
        source = lent
        try:
            source = source or open_source(ref, name)
            checkpoint = _under(name, source.headers())
            return Surveyed(name, source, checkpoint, _config(source), place, lent is not None)
        except MdmError as error:
            if source is not None and lent is None:
                source.close()
            finding = _failure(error, place)
            if all(finding.message != f.message for f in self.findings):
                self.findings.append(finding)
            return None


def _failure(error: MdmError, place: Place) -> Finding:
    kind = {3: Kind.MISFIT, 4: Kind.INTEGRITY, 5: Kind.SOURCE}.get(error.exit_code)
    if kind is None:
        raise error
    return Finding(Level.ERROR, kind, str(error), place=place)


def side_files_of(surveyed: Surveyed) -> tuple[int, list[Finding]]:
    """Return the bytes of the donor's side files and what is wrong with them.

    Those of a folder are read here, so that a file that cannot be copied is known before the work;
    those on the Hub are small downloads of the merge itself.
    """
    source, nbytes = surveyed.source, 0
    found: list[Finding] = []
    if surveyed.config is None:
        message = f"{surveyed.name} has no config.json, so the result will have none either"
        hint = "transformers needs one to load it"
        found.append(Finding(Level.WARNING, Kind.MISFIT, message, hint, surveyed.place))
    if source.origin().kind == "hub":
        return 0, found
    for name in source.side_files():
        try:
            nbytes += len(source.side_file(name) or b"")
        except MdmError as error:
            found.append(_failure(error, surveyed.place))
    return nbytes, found


def _config(source: Source) -> Mapping[str, object] | None:
    raw = source.side_file("config.json")
    if raw is None:
        return None
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            f"{shown(source.name)}: config.json is not JSON ({shown(str(error))}); "
            "get the file again or mend it"
        ) from None
    if not isinstance(config, dict):
        raise IntegrityError(
            f"{shown(source.name)}: config.json should hold a JSON object, found "
            f"{type(config).__name__}"
        )
    return config


def _under(name: str, checkpoint: Checkpoint) -> Checkpoint:
    """Return the headers with the recipe's name for the source, whatever it calls itself."""
    if all(t.source == name for t in checkpoint.tensors.values()):
        return checkpoint
    tensors = {n: replace(t, source=name) for n, t in checkpoint.tensors.items()}
    return replace(checkpoint, tensors=tensors)


def _free_name(taken: Container[str]) -> str:
    names = chain(("base", "base_model"), (f"base_model_{i}" for i in count(2)))
    return next(n for n in names if n not in taken)


def survey(recipe: Recipe, given: Mapping[str, Source] | None = None) -> Survey:
    """Open every model of `recipe` and read its headers.

    `given` maps model references, as the recipe writes them, to sources that are open already
    (memory sources, sources at another place). What cannot be had becomes a finding; a survey with
    errors among its findings holds the models that could be opened.
    """
    opener = _Opener(given or {})
    models = [opener.open(m.ref, m.name, m.place) for m in recipe.models]
    base = None
    if recipe.base_model is not None:
        refs = [m.ref for m in recipe.models]
        if recipe.base_model.ref in refs:
            base = models[refs.index(recipe.base_model.ref)]
        else:
            name = _free_name({m.name for m in recipe.models})
            base = opener.open(recipe.base_model.ref, name, recipe.base_model.place)
    return Survey(tuple(m for m in models if m), base, tuple(opener.findings))
