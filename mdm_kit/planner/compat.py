"""`--compat mergekit`: a plan whose arithmetic is that of mergekit 0.1.5, step by step.

Its nodes say so in their `compute`, so that digest and manifest differ from those of other merges.
What it means in torch stands in `mdm_kit.maths.mergekit_arithmetic`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import replace

from mdm_kit.methods.contract import Method
from mdm_kit.planner.nodes import Apply, Fold, Write
from mdm_kit.recipe import Recipe
from mdm_kit.words import DTYPES, OUT_DTYPES, DType, Finding, Kind, Level, shown

COMPAT = "mergekit"
"""What a merge can be compatible with."""
_MARK = f"{COMPAT}:"
"""Stands before the dtype in the `compute` of such nodes."""
_AT_LEAST_FLOAT32 = ("arcee_fusion", "ramplus_tl")
"""Methods with a step in float32 that mergekit does not round back from."""


def is_compat(compute: str) -> bool:
    """Whether a node's `compute`, or one out of a manifest, names mergekit's arithmetic."""
    return compute.startswith(_MARK)


def any_compat(computes: Iterable[str]) -> bool:
    """Whether a merge with these `compute`s was made in mergekit's arithmetic."""
    return any(map(is_compat, computes))


def working_dtype(compute: str) -> str:
    """Return the torch name of the dtype every step of such a node is computed in."""
    return compute.removeprefix(_MARK)


def refusals(recipe: Recipe, method: Method | None) -> list[Finding]:
    """Return why a recipe cannot be merged as mergekit would."""
    if method is None or method.name in _COPIES:
        return []
    return [
        Finding(
            Level.ERROR,
            Kind.RECIPE,
            f"--compat {COMPAT} repeats mergekit's arithmetic, and mergekit has no {method.name}",
            f"merge without --compat {COMPAT}",
            recipe.merge_method.place,
        )
    ]


def averaged(names: Collection[str], recipe: Recipe) -> list[Finding]:
    """Return why a merge with means of rows in the tensors `names` cannot be as in mergekit."""
    if not names:
        return []
    message = (
        f"--compat {COMPAT} rounds each step of a mean, and rows of {shown(min(names))} are means "
        "of other rows, which are taken in float64"
    )
    hint = f"merge without --compat {COMPAT}, or give each such token a source under tokens"
    return [Finding(Level.ERROR, Kind.RECIPE, message, hint, recipe.merge_method.place)]


def as_in_mergekit(write: Write, recipe: Recipe) -> Write:
    """Return an output tensor made in mergekit's arithmetic, in the dtype mergekit leaves it in.

    Inputs are cast to the recipe's `dtype`, else to what they are promoted to together.
    """
    apply = write.apply()
    if apply is None or write.passed:
        return write
    working = recipe.dtype or _promoted({r.info.dtype for r in write.reads()})
    marked = replace(apply, compute=_MARK + working.torch_name)
    root = replace(write.root, delta=marked) if isinstance(write.root, Fold) else marked
    out = recipe.out_dtype or _left(apply, write.shape, working)
    return replace(write, root=root, dtype=out.name, nbytes=math.prod(write.shape) * out.bits // 8)


def _promoted(stored: set[str]) -> DType:
    """Return the narrowest dtype that holds all values of these, which torch promotes them to."""
    if len(stored) == 1:
        return DTYPES[next(iter(stored))]
    return DTYPES["F64" if "F64" in stored else "F32"]


def _left(apply: Apply, shape: tuple[int, ...], working: DType) -> DType:
    """Return the dtype mergekit's formula ends in."""
    # torch promotes a number with its float32 length, where it would not promote a vector.
    number = apply.method == "karcher" and not shape and len(apply.inputs) > 1
    single = apply.method in _AT_LEAST_FLOAT32 or number
    return DTYPES["F32"] if single and working.bits < 32 else working


def compat_memory(apply: Apply, n_elements: int) -> int:
    """Return the bytes one worker takes for a tensor of such a node, beyond inputs and output.

    Inputs in the working dtype, changes, masks and what is being computed of them are there at once
    and whole.
    """
    k = len(apply.inputs)
    width = OUT_DTYPES[working_dtype(apply.compute)].bits // 8
    per_input, fixed = _COPIES[apply.method]
    return n_elements * (width * per_input * (k + 1) + fixed)


_COPIES = {
    "arcee_fusion": (4, 12),
    "breadcrumbs": (2, 32),
    "breadcrumbs_ties": (4, 28),
    "dare_linear": (2, 24),
    "dare_ties": (4, 16),
    "della": (4, 44),
    "della_linear": (2, 64),
    "karcher": (4, 32),
    "linear": (1, 8),
    "model_stock": (4, 4),
    "multislerp": (5, 0),
    "nearswap": (4, 0),
    "nuslerp": (3, 0),
    "passthrough": (1, 4),
    "ram": (5, 20),
    "ramplus_tl": (6, 42),
    "sce": (4, 32),
    "slerp": (1, 12),
    "task_arithmetic": (2, 8),
    "ties": (4, 28),
}
"""Of each method mergekit has: copies in the working dtype for each input and the base, and bytes
of an element besides. Never below the peaks measured with 2 and 6 models in 16 and 32 bits."""
