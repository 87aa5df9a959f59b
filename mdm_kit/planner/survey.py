"""A survey: the recipe's models opened, their headers and configs read, nothing else touched."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, count

from mdm_kit.errors import IntegrityError, MdmError
from mdm_kit.planner.stage_source import StageSource
from mdm_kit.planner.towers import Matching
from mdm_kit.recipe import Recipe
from mdm_kit.sources import Checkpoint, Source, open_source
from mdm_kit.sources.adapted import AdaptedSource, adapted
from mdm_kit.words import DTYPES, Finding, Kind, Level, ModelRef, Place, TensorInfo, shown

AT_ONCE = 8
"""Models whose headers are read at once."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One model of a recipe: its source, its headers, its config, where the recipe names it.

    A `lent` source was open before and stays open; the others are closed with the survey. The keys
    of `checkpoint.tensors` are names of the result, once models are brought under them; each tensor
    keeps the name it has in its file. `inside` says where they stand among the donor's, where they
    are called otherwise; `unused` are those the result has nothing of, by own name. Where its
    vocabulary was aligned, `alignment` is a digest of how, and `stored` has the dtypes of tensors
    that are offered in a wider one, by own name.
    """

    name: str
    source: Source
    checkpoint: Checkpoint
    config: Mapping[str, object] | None
    place: Place
    lent: bool
    inside: Matching | None = None
    unused: tuple[str, ...] = ()
    alignment: str = ""
    stored: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_adapted(self) -> bool:
        """Whether this is a model with an adapter on it."""
        return adapted(self.source) is not None

    @property
    def written(self) -> dict[str, TensorInfo]:
        """The tensors a result takes after, in the dtypes they are stored in."""
        return {n: self.as_stored(t) for n, t in self.checkpoint.tensors.items()}

    def as_stored(self, info: TensorInfo) -> TensorInfo:
        """Return a tensor of this model in the dtype it is stored in."""
        dtype = self.stored.get(info.name, info.dtype)
        if dtype == info.dtype:
            return info
        return replace(info, dtype=dtype, nbytes=info.n_elements * DTYPES[dtype].bits // 8)


@dataclass(frozen=True, slots=True)
class Survey:
    """The models of a recipe in its order, the base among them or beside them.

    `passed` are tensors of the donor that are copied, because some model has no such part, and
    `partial` those that are merged of the models that have them. It `lacks` models where some could
    not be opened.
    """

    models: tuple[Surveyed, ...]
    base: Surveyed | None
    findings: tuple[Finding, ...]
    passed: frozenset[str] = frozenset()
    partial: frozenset[str] = frozenset()
    lacks: bool = False

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


_Wanted = tuple[ModelRef, str, Place]
"""A model's reference, its name in the merge, where the recipe names it."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Which models are open already, and how others are opened.

    `given` maps model references, as the recipe writes them, to sources (memory sources, sources
    at another place, results of stages). With `download` weights from the Hub go through its
    client's cache. Those in `absent` cannot be had, which somebody else has said.
    """

    given: Mapping[str, Source] = field(default_factory=dict)
    download: bool = False
    absent: Collection[str] = ()


class _Opener:
    """Opens sources and collects what goes wrong instead of raising."""

    def __init__(self, how: Opening) -> None:
        self.given = how.given
        self.download = how.download
        self.absent = how.absent
        self.findings: list[Finding] = []
        self._plain: dict[str, Source] = {}
        self._opening = threading.Lock()

    def open(self, wanted: Sequence[_Wanted]) -> list[Surveyed | None]:
        """Open models side by side, for a Hub's answers take their time; None for what failed.

        Those with adapters come second: what they are put on is mostly open then, and read once.
        """
        found: dict[int, Surveyed | Finding] = {}
        there = [i for i, w in enumerate(wanted) if str(w[0]) not in self.absent]
        with ThreadPoolExecutor(AT_ONCE, "survey") as pool:
            for adapted in (False, True):
                at = [i for i in there if (wanted[i][0].adapter is not None) is adapted]
                found |= zip(at, pool.map(self._opened, [wanted[i] for i in at]), strict=True)
                for i in at:
                    self._share(wanted[i][0], found[i])
        for i in there:
            one = found[i]
            if isinstance(one, Finding) and all(one.message != f.message for f in self.findings):
                self.findings.append(one)
        each = [found.get(i) for i in range(len(wanted))]
        return [None if isinstance(one, Finding) else one for one in each]

    def _share(self, ref: ModelRef, opened: Surveyed | Finding) -> None:
        if ref.adapter is None and isinstance(opened, Surveyed):
            self._plain[str(ref)] = opened.source

    def _source(self, ref: ModelRef, name: str) -> Source:
        """Return a source; adapters on one model share it, and the first that needs it opens it."""
        if ref.adapter is None:
            return open_source(ref, name, download=self.download)
        bare = replace(ref, adapter=None)
        with self._opening:
            model = self._plain.get(str(bare)) or self.given.get(str(bare))
            opened = open_source(ref, name, download=self.download, model=model)
            if model is None and isinstance(opened, AdaptedSource):
                self._plain[str(bare)] = opened.model
        return opened

    def _opened(self, wanted: _Wanted) -> Surveyed | Finding:
        ref, name, place = wanted
        lent = self.given.get(str(ref))
        source = lent
        try:
            source = source or self._source(ref, name)
            checkpoint = _under(name, source.headers())
            stored = source.stored_dtypes() if isinstance(source, AdaptedSource) else {}
            return Surveyed(
                name, source, checkpoint, _config(source), place, lent is not None, stored=stored
            )
        except MdmError as error:
            if source is not None and lent is None:
                source.close()
            return _failure(error, place)


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
    if isinstance(source, StageSource):
        return source.side_nbytes, found
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


def references_of(recipe: Recipe) -> dict[str | None, str]:
    """Return the models' references by name; None stands for a base that is no model."""
    base = "" if recipe.base_model is None else str(recipe.base_model.ref)
    return {None: base, **{m.name: str(m.ref) for m in recipe.models}}


def survey(recipe: Recipe, how: Opening) -> Survey:
    """Open every model of `recipe` and read its headers.

    What cannot be had becomes a finding; a survey with errors among its findings holds the models
    that could be opened.
    """
    opener = _Opener(how)
    wanted: list[_Wanted] = [(m.ref, m.name, m.place) for m in recipe.models]
    refs = [m.ref for m in recipe.models]
    base = recipe.base_model
    if base is not None and base.ref not in refs:
        wanted.append((base.ref, _free_name({m.name for m in recipe.models}), base.place))
        refs.append(base.ref)
    opened = opener.open(wanted)
    models = tuple(m for m in opened[: len(recipe.models)] if m)
    told = (f for m in opened if m for f in (_moved(m), _elsewhere(m)) if f)
    findings = (*opener.findings, *told)
    given_base = None if base is None else opened[refs.index(base.ref)]
    return Survey(models, given_base, findings, lacks=None in opened)


def _elsewhere(found: Surveyed) -> Finding | None:
    """Return a warning for an adapter that says it was trained on another model."""
    source = found.source
    stated = source.config.base if isinstance(source, AdaptedSource) else None
    if stated is None:
        return None
    origin, config = source.origin(), found.config or {}
    put_on = [origin.repo or origin.path or source.name, str(config.get("_name_or_path", ""))]
    if _last_part(stated) in map(_last_part, put_on):
        return None
    name, on = shown(_last_part(put_on[0])), shown(stated)
    message = f"model '{shown(found.name)}': its adapter was trained on {on}, and is put on {name}"
    hint = "if that is another model, the sum of both is neither"
    return Finding(Level.WARNING, Kind.SOURCE, message, hint, found.place)


def _last_part(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1].casefold()


def _moved(found: Surveyed) -> Finding | None:
    standing = found.source.standing()
    if standing is None or standing.repo is None:
        return None
    old, new = shown(found.source.origin().repo or found.name), shown(standing.repo)
    message = f"model '{shown(found.name)}', {old}: the repository is called {new} now"
    hint = f"write {new}: anybody may take the old name for another model"
    return Finding(Level.WARNING, Kind.SOURCE, message, hint, found.place)
