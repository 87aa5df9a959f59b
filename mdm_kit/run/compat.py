"""The course of a tensor under `--compat mergekit`: whole, in mergekit's steps, on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mdm_kit.errors import MisfitError
from mdm_kit.planner.compat import working_dtype
from mdm_kit.planner.nodes import Apply, Fold, Write
from mdm_kit.run.course import Course
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs
from mdm_kit.words import DTYPES, shown

if TYPE_CHECKING:
    from torch import Tensor


class CompatCourse(Course):
    """No stage: the tensor is one tile, and all its inputs are there at once."""

    def __init__(self, write: Write, apply: Apply, keys: Sequence[int]) -> None:
        """Merge with the method of `apply`; `keys` are those of the models' draws."""
        super().__init__(write, [])
        self._apply = apply
        self._keys = keys

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write the tensor, cast to `dtype`; return whether it and all inputs are finite.

        `wide` is not asked: every step is in the working dtype. Raises `MisfitError` where the
        method has no result.
        """
        import torch

        from mdm_kit.maths.mergekit_arithmetic.one_thread import one_thread
        from mdm_kit.maths.rounding import all_finite
        from mdm_kit.run.compat_methods import ARITHMETIC, Given

        with one_thread():
            values = self._aligned(inputs)
            finite = all(map(all_finite, values))
            base = values.pop(0) if isinstance(self.write.root, Fold) else None
            given = Given(values, base, self._apply.params, self._keys)
            try:
                merged = ARITHMETIC[self._apply.method](given)
            except ValueError as error:
                raise MisfitError(f"{shown(self.write.name)}: {error}") from None
            stored = torch.from_numpy(out).view(getattr(torch, DTYPES[dtype].torch_name))
            stored.copy_(merged.reshape(-1))
            return finite and all_finite(stored)

    def _aligned(self, inputs: Inputs) -> list[Tensor]:
        """Return the inputs in the working dtype: copies, which begin where torch's own do."""
        import torch

        working = getattr(torch, working_dtype(self._apply.compute))
        found = []
        for i, stored in enumerate(inputs.dtypes):
            raw = torch.from_numpy(inputs.array(i)).view(getattr(torch, DTYPES[stored].torch_name))
            found.append(raw.to(working, copy=True).reshape(self.write.shape))
        return found
