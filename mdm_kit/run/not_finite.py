"""What to say where a result is no number: which element, which models, and what to do."""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.fold import fold
from mdm_kit.planner.nodes import Write
from mdm_kit.run.inputs import Inputs
from mdm_kit.words import DTYPES, shown

_TOO_LARGE = {"BF16": 3.3961775292304957e38, "F16": 65520.0, "F32": 3.4028235677973366e38}
"""Magnitudes that round to infinity: the middle between the largest number and the next power."""


def refuse_not_finite(write: Write, inputs: Inputs, start: int) -> NoReturn:
    """Raise `NotFiniteError` for inputs, from the tensor's element `start` on, no sum can be of."""
    parents = ", ".join(shown(r.info.source) for r in write.reads())
    fault = _fault_of_a_model(start, inputs) or "squares of its changes leave float64's range"
    raise NotFiniteError(
        f"{shown(write.name)}: {fault}, made from {parents}; every weight must be a finite number. "
        "Look for NaN or infinity in that model, get it again, or mend it"
    )


def not_finite(write: Write, start: int, inputs: Inputs, values: NDArray[np.float64]) -> str:
    """Return the message for a tile, from the tensor's element `start` on, that is not finite.

    The first element that is not, of the inputs, whether it is merged or dropped, else of the
    results.
    """
    parents = ", ".join(shown(r.info.source) for r in write.reads())
    name = shown(write.name)
    if (fault := _fault_of_a_model(start, inputs)) is not None:
        return (
            f"{name}: {fault}, made from {parents}; every weight must be a finite number. "
            "Look for NaN or infinity in that model, get it again, or mend it"
        )
    bad = np.flatnonzero(~(np.abs(values) < _TOO_LARGE.get(write.dtype, math.inf)))
    if bad.size:
        at = int(bad[0])
        return (
            f"{name}: element {start + at} of the result is {values[at]:g}, "
            f"made from {parents}; every merged value must be a finite "
            f"{DTYPES[write.dtype].torch_name}. Look for NaN or infinity in these models, "
            "smaller weights, or an out_dtype with a wider range"
        )
    return (
        f"{name}: a step of the float32 arithmetic left its range, made "
        f"from {parents}, although the result would not; "
        "write dtype: float64 and the out_dtype you want"
    )


def _fault_of_a_model(start: int, inputs: Inputs) -> str | None:
    """Return which model has which element that is not finite; None if all have only numbers."""
    for i, dtype in enumerate(inputs.dtypes):
        room = np.empty(inputs.count)
        fold(
            [inputs.addresses[i]],
            [dtype],
            [1.0],
            base=False,
            wide=True,
            n=inputs.count,
            out=room.ctypes.data,
            out_dtype="F64",
        )
        bad = np.flatnonzero(~np.isfinite(room))
        if bad.size:
            at = int(bad[0])
            return f"element {start + at} of {shown(inputs.sources[i])} is {room[at]:g}"
    return None
