"""Whether a source is the model that a finished merge was made of, its adapter included."""

from __future__ import annotations

from dataclasses import replace

from mdm_kit.ledger.entries import SourceEntry
from mdm_kit.recipe import Scalar, parse_reference
from mdm_kit.sources import Source
from mdm_kit.sources.adapted import adapted
from mdm_kit.words import ModelRef, shown


def parts_of(reference: str) -> list[str]:
    """Return a reference without its adapter, and what names the adapter, if there is one."""
    ref = parse_reference(Scalar(reference))
    if ref.adapter is None:
        return [reference]
    adapter = ModelRef(ref.adapter.path, ref.adapter.revision)
    return [str(replace(ref, adapter=None)), str(adapter)]


def part_of(entry: SourceEntry, i: int) -> SourceEntry:
    """Return what an entry says of the model an adapter is put on (0), or of the adapter (1)."""
    assert entry.adapter is not None  # noqa: S101 -- asked of models with one
    reference = parts_of(entry.reference)[i]
    if i == 0:
        return replace(entry, reference=reference, adapter=None)
    own = entry.adapter
    return replace(
        entry,
        reference=reference,
        repo=own.repo,
        commit=own.commit,
        files=own.files,
        adapter=None,
    )


def difference(entry: SourceEntry, source: Source) -> str | None:
    """Say how a source differs from the model an entry describes; None if it is the same."""
    on = adapted(source)
    if (on is None) is not (entry.adapter is None):
        if on is None:
            return "expected a model with an adapter, found one without; write BASE+ADAPTER"
        return "expected a model without an adapter, found one with it"
    if on is not None:
        model = difference(part_of(entry, 0), on.model)
        return model or difference(part_of(entry, 1), on.adapter)
    origin = source.origin()
    if entry.repo is not None and (origin.repo, origin.commit) == (entry.repo, entry.commit):
        return None
    want = [(f.name, f.nbytes, f.header_sha256) for f in entry.files]
    have = [(f.name, f.nbytes, "sha256:" + f.header_sha256) for f in source.headers().files]
    if sorted(want) != sorted(have):
        return "its weight files have other names, sizes or headers"
    digests = {f.name: f.sha256 for f in source.headers().files}
    known = bool(entry.files) and all(f.sha256 and digests[f.name] for f in entry.files)
    if entry.reference.startswith("local:") and not known:
        digest = entry.reference.rpartition("@")[2]
        found = source.content_fingerprint()
        return None if found == digest else f"expected {digest}, found {found}"
    for file in entry.files:
        # What the Hub declares it computed itself: nothing is downloaded to tell models apart.
        found = f"sha256:{digests[file.name] or source.file_digest(file.name)}"
        if file.sha256 != found:
            return f"{shown(file.name)}: expected {file.sha256}, found {found}"
    return None
