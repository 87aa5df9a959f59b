"""The sources a merge keeps beside its weights, as its recipe asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from mdm_kit.bundle.stage import Stage
from mdm_kit.ledger.entries import FileEntry
from mdm_kit.planner.plan import Plan
from mdm_kit.run.foresight import Foresight
from mdm_kit.run.keeping import Kept, keep_deltas
from mdm_kit.run.progress import Progress
from mdm_kit.sources import KEPT_FOLDER, Source
from mdm_kit.sources.adapted import adapted
from mdm_kit.sources.aligned import as_stored
from mdm_kit.words import counted


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """Files that keep models or sums: the name of each, and what the manifest says of each."""

    by_model: dict[str, str] = field(default_factory=dict)
    entries: dict[str, FileEntry] = field(default_factory=dict)
    sums: tuple[str, ...] = ()

    def with_sums(self, files: Mapping[str, FileEntry]) -> KeptFiles:
        """Return these and files that keep sums."""
        return replace(self, entries={**self.entries, **files}, sums=tuple(files))


def keep_sources(plan: Plan, stage: Stage, progress: Progress, foresight: Foresight) -> KeptFiles:
    """Write the models a recipe wants kept, their bits against the base's, beside the shards.

    Raises what reading the models raises, and `RoomError` where the disk refuses.
    """
    keep = plan.recipe.ledger
    if keep not in ("deltas", "deltas+base"):
        return KeptFiles()
    base = next((s for s in plan.sources if s.role == "base"), None)
    assert base is not None  # noqa: S101 -- planning refuses to keep deltas without one
    folder = stage.model / KEPT_FOLDER
    folder.mkdir()
    wanted: list[tuple[str, Kept]] = []
    # As they are stored: a model that comes out of the bundle is the one that went into it.
    origin = as_stored(base.source)
    for i, (name, source) in enumerate(_models(plan), start=1):
        path, on = folder / f"{i:03d}.safetensors", adapted(source)
        if on is not None:  # what it is put on is the base, which planning has seen to
            wanted.append((name, Kept(on.adapter, None, path)))
        else:
            wanted.append((name, Kept(as_stored(source), origin, path)))
    if keep == "deltas+base":
        wanted.append((base.name, Kept(origin, None, folder / "base.safetensors")))
    progress.say(f"keeping {counted(len(wanted), 'model')}")
    digests = keep_deltas([kept for _, kept in wanted], plan.budget.threads, foresight=foresight)
    names = {name: f"{KEPT_FOLDER}/{kept.path.name}" for name, kept in wanted}
    return KeptFiles(
        names,
        {
            names[name]: FileEntry(digests[kept.path.name].nbytes, digests[kept.path.name].sha256)
            for name, kept in wanted
        },
    )


def _models(plan: Plan) -> Iterator[tuple[str, Source]]:
    """Yield the models that are still merged, whether their weights are read or not."""
    if plan.edit is not None and plan.edit.opened:
        yield from plan.edit.opened.items()
        return
    for source in plan.sources:
        if source.role == "model":
            yield source.name, source.source
