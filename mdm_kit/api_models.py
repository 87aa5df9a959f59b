"""Models as the Python API and the commands name them, opened."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from mdm_kit.errors import UsageError
from mdm_kit.recipe import Scalar, WrongValue, parse_reference
from mdm_kit.words import ModelRef, shown

if TYPE_CHECKING:
    from mdm_kit.sources import Source


def opened(
    model: ModelRef | Source | str | os.PathLike[str], name: str, until: ExitStack
) -> Source:
    """Return the source of `model`, closed with `until` unless it was open before.

    Raises `UsageError` for what is no reference, `SourceError` for one that names nothing.
    """
    from mdm_kit.sources import open_source

    if isinstance(model, str | os.PathLike):
        model = reference(model, name)
    return until.enter_context(open_source(model, name)) if isinstance(model, ModelRef) else model


def reference(model: str | os.PathLike[str], name: str) -> ModelRef:
    """Return what a text or a path refers to; raises `UsageError` for what is no reference."""
    text = os.fspath(model)
    # A folder of this machine is that folder, whatever signs its name holds.
    if not isinstance(model, str) or os.path.isdir(text):  # noqa: PTH112 -- Path raises for some
        return ModelRef(text)
    try:
        return parse_reference(Scalar(text, plain=False))
    except WrongValue as problem:
        raise UsageError(f"model {name}: {shown(str(problem), 400)}") from None
