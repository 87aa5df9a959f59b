"""The weight files of surveyed models, each counted once: adapters share what they are put on."""

from __future__ import annotations

from collections.abc import Sequence

from mdm_kit.planner.survey import Surveyed
from mdm_kit.sources import CheckpointFile
from mdm_kit.sources.adapted import adapted
from mdm_kit.sources.aligned import as_stored


def owner_of(model: Surveyed, file: str) -> int:
    """Return what tells a weight file's source from others: a model, or an adapter on it."""
    on = adapted(model.source)
    if on is None:
        return id(as_stored(model.source))
    mine = any(f.name == file for f in own_files(model))
    return id(on.adapter if mine else on.model)


def own_files(model: Surveyed) -> list[CheckpointFile]:
    """Return the weight files of a model, of one with an adapter the adapter's alone."""
    on = adapted(model.source)
    return list(model.checkpoint.files if on is None else on.adapter.headers().files)


def distinct_files(models: Sequence[Surveyed]) -> list[CheckpointFile]:
    """Return every weight file once, however many adapters are on the model it is of."""
    found: dict[tuple[int, str], CheckpointFile] = {}
    for model in models:
        on = adapted(model.source)
        parts = [model.source] if on is None else [on.model, on.adapter]
        for part in parts:
            found |= {(id(as_stored(part)), f.name): f for f in part.headers().files}
    return list(found.values())
