"""The chain of events in a manifest: each holds the digest of the one before, the last the rest."""

from __future__ import annotations

from mdm_kit.ledger.canonical import digest
from mdm_kit.ledger.manifest import Manifest, plain
from mdm_kit.words import shown


def history_faults(manifest: Manifest) -> list[str]:
    """Return where a manifest's history does not hold together, or does not fit the manifest."""
    events = manifest.history
    faults = []
    if events[0].operation != "merge" or events[0].parent is not None:
        faults.append("history: its first event is no merge; what came before was cut off")
    for i in range(1, len(events)):
        if events[i].parent != digest(plain(events[i - 1])):
            faults.append(
                f"history: event {i + 1} ({events[i].operation}) does not follow event {i} "
                f"({events[i - 1].operation}); one was changed, taken out or put in"
            )
        if events[i].operation == "merge":
            faults.append(f"history: event {i + 1} is a merge, which can only be the first")
    stated, found = events[-1].sections, manifest.sections()
    faults += [
        f"{shown(name, 40)}: is not what the last event of the history says"
        for name in sorted({*stated, *found})
        if stated.get(name) != found.get(name)
    ]
    if events[-1].plan != manifest.plan:
        faults.append("plan: is not that of the last event of the history")
    return faults + _certificate_faults(manifest)


def _certificate_faults(manifest: Manifest) -> list[str]:
    """Return where the last event's certificate is about another merge."""
    certificate = manifest.history[-1].certificate
    if certificate is None:
        return []
    faults = []
    if certificate.weights != digest({n: s.sha256 for n, s in manifest.shards.items()}):
        faults.append("history: the last certificate is about other weights")
    merged = {s.name for s in manifest.sources if s.role == "model" and s.status == "merged"}
    faults += [
        f"history: the last certificate says that {shown(name)} was removed, and it is merged"
        for name in certificate.removed
        if name in merged
    ]
    if certificate.mode == "rebuild" and (certificate.leak or certificate.residue):
        faults.append("history: the last certificate is of a rebuild, which leaves nothing")
    return faults
