"""The models a merge was made of, as its manifest lists them: where each is, and its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.entries import AdapterEntry, SourceEntry, SourceFile
from mdm_kit.planner.licences import recorded, standing_of
from mdm_kit.planner.originals import originals_of
from mdm_kit.planner.plan import Plan, PlannedSource
from mdm_kit.recipe import Recipe, plain_setting
from mdm_kit.run.staged_entries import document_of
from mdm_kit.sources import CheckpointFile, Source
from mdm_kit.sources.adapted import adapted
from mdm_kit.words import shown


@dataclass(frozen=True, slots=True)
class Noted:
    """What the journal has of a merge beside its shards, so that each run says the same.

    `time` is when it was begun; `seen` the sha256 (hex) of far files that came by whole, by model
    and file.
    """

    time: str
    seen: Mapping[str, Mapping[str, str]]


def seen_digests(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the sha256 (hex) of far files all of whose bytes came by, by model and file."""
    return {
        s.name: {
            f.name: digest
            for f in s.checkpoint.files
            if not f.in_cache and (digest := s.source.seen_digest(f.name)) is not None
        }
        for s in originals_of(plan)
        if s.source.is_far
    }


def source_entries(
    plan: Plan, references: Mapping[str, str], verify: bool, noted: Noted
) -> list[SourceEntry]:
    """Return every model of a merge, in whatever stage, the base first.

    `references` gives each one's public name, `verify` asks for the sha256 of every file. Raises
    `IntegrityError` where a file from the Hub is not the one the Hub declares.
    """
    if plan.edit is not None and plan.edit.sources:
        return list(plan.edit.sources)
    read = {
        s.name: _source(s, plan, references[s.name], verify, noted)
        for s in originals_of(plan)
        if s.role in ("base", "model")
    }
    held = {s.name: _held(s, plan) for s in (plan.edit.held if plan.edit else ())}
    order = [*(n for n, s in read.items() if s.role == "base"), *held, *read]
    return list({name: {**held, **read}[name] for name in order}.values())


def _held(entry: SourceEntry, plan: Plan) -> SourceEntry:
    """Return the entry of a model that an earlier merge has in its sums."""
    return replace(entry, parameters=_parameters(entry.name, plan.recipe), kept=None)


def _parameters(name: str, recipe: Recipe) -> dict[str, Any]:
    return {
        p.name: plain_setting(p.setting)
        for m in recipe.models
        if m.name == name
        for p in m.parameters
    }


def _source(
    source: PlannedSource, plan: Plan, reference: str, verify: bool, noted: Noted
) -> SourceEntry:
    parameters = _parameters(source.name, document_of(source, plan))
    role: Literal["base", "model"] = "base" if source.role == "base" else "model"
    earlier = plan.edit.inherited.get(source.ref) if plan.edit else None
    if earlier is not None and source.source.origin().kind != "hub" and not verify:
        # The same model at another place, or out of the bundle: what it was made of still holds.
        return replace(earlier, name=source.name, role=role, parameters=parameters, kept=None)
    on = adapted(source.source)
    files = {f.name: _source_file(source, f, verify, noted) for f in source.checkpoint.files}
    adapter = None
    if on is not None:
        then = earlier.adapter if earlier is not None else None
        own = [files.pop(f.name) for f in on.adapter.headers().files]
        adapter = _adapter(on.adapter, then, own)
    return SourceEntry(
        name=source.name,
        role=role,
        reference=reference,
        repo=source.repo if earlier is None else earlier.repo,
        commit=source.commit if earlier is None else earlier.commit,
        files=list(files.values()),
        parameters=parameters,
        standing=recorded(standing_of(earlier, source.source.standing())),
        adapter=adapter,
    )


def _adapter(
    adapter: Source, earlier: AdapterEntry | None, files: list[SourceFile]
) -> AdapterEntry:
    origin = adapter.origin()
    return AdapterEntry(
        repo=origin.repo if earlier is None else earlier.repo,
        commit=origin.commit if earlier is None else earlier.commit,
        files=files,
        standing=recorded(standing_of(earlier, adapter.standing())),
    )


def _source_file(
    source: PlannedSource, file: CheckpointFile, verify: bool, noted: Noted
) -> SourceFile:
    found = _found_digest(source, file, verify, noted)
    # What came from the Hub is compared with the Hub's own digest: a byte that changed on the way,
    # or in the cache since, must not end in a sealed merge.
    if file.sha256 and found and found != file.sha256:
        what = (
            "delete it from the Hugging Face cache and run again" if file.in_cache else "run again"
        )
        raise IntegrityError(
            f"{shown(source.name)}: {shown(file.name)} should have the sha256 {file.sha256} the "
            f"Hub declares, found {found}; {what}"
        )
    known = found or file.sha256
    return SourceFile(
        name=file.name,
        nbytes=file.nbytes,
        header_sha256="sha256:" + file.header_sha256,
        sha256="sha256:" + known if known else None,
        status="verified" if found else "declared" if known else None,
    )


def _found_digest(
    source: PlannedSource, file: CheckpointFile, verify: bool, noted: Noted
) -> str | None:
    """Return the sha256 of a file, read for it if it must be; None where nobody asked for that.

    A file that is fetched in parts has one where all of it came by, in order.
    """
    far = source.source.is_far and not file.in_cache
    found = noted.seen.get(source.name, {}).get(file.name) if far else None
    if found is None and (verify or (file.sha256 and not far)):
        found = source.source.file_digest(file.name)
    return found
