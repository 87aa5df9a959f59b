"""What licence a merge has, and why it had better stay private: from what its parents state."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mdm_kit.ledger.entries import AdapterEntry, SourceEntry, StandingEntry
from mdm_kit.planner.survey import Survey, references_of
from mdm_kit.recipe import Recipe
from mdm_kit.sources import Origin, Source, Standing
from mdm_kit.sources.adapted import adapted
from mdm_kit.words import Finding, Kind, Level, License, Place, shown

OTHER = "other"
"""The Hub's word for a licence that has a name and a link of its own."""
_FILE = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)
MAX_TEXT = 1000
"""Characters of a text that a manifest records; a licence's name or link has fewer."""
_ADDRESS = re.compile(r"https?://[!-~]+")


@dataclass(frozen=True, slots=True)
class Parent:
    """A model of the merge as its licence goes.

    `repo` and `commit` are None for what is no model of the Hub; `standing` is None where the Hub
    was not asked.
    """

    name: str
    repo: str | None
    commit: str | None
    standing: Standing | None

    def __str__(self) -> str:
        """Return name and repository."""
        return f"{shown(self.name)} ({shown(self.repo)})" if self.repo else shown(self.name)

    @property
    def asked(self) -> Standing:
        """Return what the Hub says, or that it was not asked."""
        return self.standing or Standing(known=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """The licence of a merge, and what follows from its parents' for publishing it.

    `stated` says by model what its repository states. `private_because` are the reasons why the
    result stays private unless somebody decides otherwise; without one it may be public.
    `pipeline_tag` is the task all parents are listed under, None where they differ.
    """

    license: License | None = None
    stated: Mapping[str, str] = field(default_factory=dict)
    private_because: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    findings: tuple[Finding, ...] = ()


def recorded(standing: Standing | None) -> StandingEntry | None:
    """Return what a manifest says of a model's standing, None where nobody was asked."""
    if standing is None or not standing.known:
        return None
    return StandingEntry(
        license=_recorded(standing.license),
        license_name=_recorded(standing.license_name),
        license_link=_recorded(standing.license_link),
        pipeline_tag=_recorded(standing.pipeline_tag),
        gated=standing.gated,
        private=standing.private,
    )


def standing_of(
    entry: SourceEntry | AdapterEntry | None, now: Standing | None = None
) -> Standing | None:
    """Return a model's standing: what the Hub says `now`, else what it said to an earlier merge."""
    then = entry.standing if entry is not None else None
    if (now is not None and now.known) or then is None:
        return now
    return Standing(
        license=then.license,
        license_name=then.license_name,
        license_link=then.license_link,
        pipeline_tag=then.pipeline_tag,
        gated=then.gated,
        private=then.private,
    )


def _recorded(text: str | None) -> str | None:
    """Return a stranger's text if a manifest can hold it."""
    if text is None or len(text) > MAX_TEXT or not text.isprintable():
        return None
    return text


def parents_of(
    name: str, source: Source | None, entry: SourceEntry | None, place: Origin | None = None
) -> list[Parent]:
    """Return a model as licences go, and its adapter behind it.

    What is not said by an open `source` is what an earlier merge says of it in `entry`; `place` is
    where it is known to be.
    """
    here = place or (source.origin() if source is not None else Origin("memory"))
    repo, commit = here.repo, here.commit
    if repo is None and entry is not None:
        repo, commit = entry.repo, entry.commit
    now = source.standing() if source is not None else None
    found = [Parent(name, repo, commit, standing_of(entry, now))]
    on = adapted(source) if source is not None else None
    then = entry.adapter if entry is not None else None
    if on is None and then is None:
        return found
    where = on.adapter.origin() if on is not None else Origin("memory")
    if where.repo is None and then is not None:
        where = Origin("hub", then.repo, then.commit)
    standing = standing_of(then, on.adapter.standing() if on is not None else None)
    return [*found, Parent(f"{name}, its adapter", where.repo, where.commit, standing)]


def surveyed_terms(recipe: Recipe, surveyed: Survey, earlier: Mapping[str, SourceEntry]) -> Terms:
    """Return the terms of a merge of surveyed models.

    `earlier` are what an earlier merge says of them, by reference: a source may be a copy of a
    model that the Hub had then.
    """
    references = references_of(recipe)
    parents = [
        parent
        for s in surveyed.sources
        for parent in parents_of(
            s.name, s.source, earlier.get(references.get(s.name, references[None]))
        )
    ]
    return terms_of(parents, recipe, {s.name: s.place for s in surveyed.sources})


def terms_of(
    parents: Sequence[Parent], recipe: Recipe, places: Mapping[str, Place] | None = None
) -> Terms:
    """Return the terms of a merge of `parents`.

    One licence that all of them state is inherited. Licences that differ are an error among the
    findings, unless the recipe decides by `license`; `places` says where it names each parent.
    """
    hub = [p for p in parents if p.repo is not None]
    decided = recipe.license is not None
    reasons = {p: r for p in parents if (r := _reasons(p, decided=decided))}
    found = []
    if not decided and len({_licence(p) for p in hub if p.asked.license}) > 1:
        found.append(_clash(hub, places or {}))
    found += _warnings({p: r for p, r in reasons.items() if p.repo})
    tags = {p.asked.pipeline_tag for p in parents}
    return Terms(
        license=_result(parents, recipe.license),
        stated={p.name: _stated(p.asked) for p in hub},
        private_because=tuple(_said(p, r) for p, r in reasons.items()),
        pipeline_tag=tags.pop() if len(tags) == 1 else None,
        findings=tuple(found),
    )


def _licence(parent: Parent) -> tuple[str | None, ...]:
    """Return what two parents of one licence have in common."""
    standing = parent.asked
    name = (standing.license or "").strip().lower()
    if name != OTHER:
        return (name,)
    # Another licence is known by its name; one without it is nobody else's.
    return (name, standing.license_name or None, None if standing.license_name else parent.repo)


def _reasons(parent: Parent, *, decided: bool) -> list[str]:
    if parent.repo is None:
        return [] if decided else ["is no model of the Hub, so that its licence is not known"]
    standing = parent.asked
    if not standing.known:
        return ["was not looked up on the Hub, so that licence and gate are not known"]
    return [
        *(["states no licence"] if not standing.license and not decided else []),
        *(["is gated"] if standing.gated else []),
        *(["is private"] if standing.private else []),
    ]


def _clash(hub: Sequence[Parent], places: Mapping[str, Place]) -> Finding:
    stating = [p for p in hub if p.asked.license]
    other = next(p for p in stating if _licence(p) != _licence(stating[0]))
    listed = "; ".join(f"{p}: {_stated(p.asked)}" for p in hub)
    return Finding(
        Level.ERROR,
        Kind.RECIPE,
        f"the models' licences differ: {listed}",
        "read them, then write the licence that the result may have into the recipe, as in "
        "license: other",
        places.get(other.name),
    )


def _warnings(reasons: Mapping[Parent, Sequence[str]]) -> list[Finding]:
    """Return a finding about parents that speak against publishing, and one about the others."""
    hint = "license: in the recipe decides what the result is licensed as"
    found = []
    for known, level in ((True, Level.WARNING), (False, Level.NOTE)):
        told = "; ".join(_said(p, r) for p, r in reasons.items() if p.asked.known == known)
        if told:
            message = f"published, the result would be private: {told}"
            found.append(Finding(level, Kind.RECIPE, message, hint))
    return found


def _said(parent: Parent, reasons: Sequence[str]) -> str:
    return f"{parent} {' and '.join(reasons)}"


def _stated(standing: Standing) -> str:
    if not standing.known:
        return "not known"
    if not standing.license:
        return "none stated"
    name = standing.license_name
    return shown(f"{standing.license} ({name})" if name else standing.license, 80)


def _result(parents: Sequence[Parent], decided: str | None) -> License | None:
    agreed = {_licence(p) for p in parents}
    first = parents[0] if parents else None
    if first is None or len(agreed) > 1 or any(not p.repo for p in parents):
        return License(decided) if decided else None
    standing = first.asked
    if not standing.license or (decided and decided != standing.license):
        return License(decided) if decided else None
    if _licence(first)[0] != OTHER:
        return License(shown(standing.license, 80))
    link = next((k for p in parents if (k := _link(p))), None)
    name = standing.license_name
    return License(OTHER, shown(name, 80) if name else None, link)


def _link(parent: Parent) -> str | None:
    """Return where a parent's own licence is read, from wherever the result is."""
    link = parent.asked.license_link or ""
    if _ADDRESS.fullmatch(link):
        return link
    if _FILE.fullmatch(link):
        return f"https://huggingface.co/{parent.repo}/blob/{parent.commit}/{link}"
    return None
