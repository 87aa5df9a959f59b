"""What each of mergekit's methods is under `--compat mergekit`, and how its parameters go in.

This module imports torch; `compat` imports it when the first tensor is merged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mdm_kit.maths.mergekit_arithmetic.arcs import nuslerp, slerp
from mdm_kit.maths.mergekit_arithmetic.averages import linear, scaled
from mdm_kit.maths.mergekit_arithmetic.changes import added_changes
from mdm_kit.maths.mergekit_arithmetic.chosen import arcee_fusion, sce
from mdm_kit.maths.mergekit_arithmetic.counted import nearswap, ram, ramplus
from mdm_kit.maths.mergekit_arithmetic.draws import uniform
from mdm_kit.maths.mergekit_arithmetic.keeping import (
    by_chance,
    by_ranked_chance,
    largest,
    middle,
)
from mdm_kit.maths.mergekit_arithmetic.sphere import karcher, multislerp
from mdm_kit.maths.mergekit_arithmetic.stock import model_stock

_SMALLEST_SUM = 1e-6
"""Weights whose sum is smaller mean the middle of an arc."""


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor's inputs in the working dtype, its parameters, and the keys of its models' draws."""

    models: list[Tensor]
    base: Tensor | None
    params: Any
    keys: Sequence[int]


def _linear(given: Given) -> Tensor:
    return linear(given.models, given.params.weight, normalize=given.params.normalize)


def _passthrough(given: Given) -> Tensor:
    return scaled(given.models[0], given.params.scale[0])


def _slerp(given: Given) -> Tensor:
    return slerp(given.models[0], given.models[1], given.params.t)


def _nuslerp(given: Given) -> Tensor:
    p = given.params
    total = sum(p.weight)
    t = 0.5 if abs(total) < _SMALLEST_SUM else p.weight[1] / total
    first, second = given.models
    return nuslerp(
        (first, second), given.base, t, flatten=p.nuslerp_flatten, columns=p.nuslerp_row_wise
    )


def _multislerp(given: Given) -> Tensor:
    p = given.params
    return multislerp(given.models, given.base, p.weight, p.eps, normalize=p.normalize_weights)


def _karcher(given: Given) -> Tensor:
    return karcher(given.models, int(given.params.max_iter), given.params.tol)


def _model_stock(given: Given) -> Tensor:
    return model_stock(_base(given), given.models, rows=given.params.filter_wise)


def _nearswap(given: Given) -> Tensor:
    return nearswap(_base(given), given.models[0], given.params.t)


def _arcee_fusion(given: Given) -> Tensor:
    return arcee_fusion(_base(given), given.models[0])


def _sce(given: Given) -> Tensor:
    return sce(_base(given), given.models, given.params.select_topk)


def _ram(given: Given) -> Tensor:
    return ram(_base(given), given.models, given.params.epsilon)


def _ramplus(given: Given) -> Tensor:
    p = given.params
    return ramplus(_base(given), given.models, p.epsilon, p.r, p.alpha)


def _base(given: Given) -> Tensor:
    assert given.base is not None  # noqa: S101 -- a method of deltas has one
    return given.base


def _added(given: Given, keep: Callable[[int, Tensor], Tensor], *, elect: bool) -> Tensor:
    p = given.params
    return added_changes(
        _base(given),
        given.models,
        p.weight,
        keep,
        elect=elect,
        normalize=p.normalize,
        scale=p.lambda_,
    )


def _task_arithmetic(given: Given) -> Tensor:
    return _added(given, lambda _, change: change, elect=False)


def _ties(given: Given) -> Tensor:
    p = given.params
    return _added(given, lambda i, d: largest(d, p.density[i], rescale=p.rescale), elect=True)


def _breadcrumbs(given: Given, *, elect: bool) -> Tensor:
    p = given.params
    return _added(
        given, lambda i, d: middle(d, p.density[i], p.gamma[i], rescale=p.rescale), elect=elect
    )


def _dare(given: Given, *, elect: bool) -> Tensor:
    p = given.params

    def keep(i: int, change: Tensor) -> Tensor:
        return by_chance(
            change,
            p.density[i],
            lambda: uniform(given.keys[i], tuple(change.shape)),
            rescale=p.rescale,
        )

    return _added(given, keep, elect=elect)


def _della(given: Given, *, elect: bool) -> Tensor:
    p = given.params

    def keep(i: int, change: Tensor) -> Tensor:
        return by_ranked_chance(
            change,
            p.density[i],
            p.epsilon[i],
            lambda: uniform(given.keys[i], tuple(change.shape)),
            rescale=p.rescale,
        )

    return _added(given, keep, elect=elect)


ARITHMETIC: dict[str, Callable[[Given], Tensor]] = {
    "arcee_fusion": _arcee_fusion,
    "breadcrumbs": lambda given: _breadcrumbs(given, elect=False),
    "breadcrumbs_ties": lambda given: _breadcrumbs(given, elect=True),
    "dare_linear": lambda given: _dare(given, elect=False),
    "dare_ties": lambda given: _dare(given, elect=True),
    "della": lambda given: _della(given, elect=True),
    "della_linear": lambda given: _della(given, elect=False),
    "karcher": _karcher,
    "linear": _linear,
    "model_stock": _model_stock,
    "multislerp": _multislerp,
    "nearswap": _nearswap,
    "nuslerp": _nuslerp,
    "passthrough": _passthrough,
    "ram": _ram,
    "ramplus_tl": _ramplus,
    "sce": _sce,
    "slerp": _slerp,
    "task_arithmetic": _task_arithmetic,
    "ties": _ties,
}
"""What each method of the dialect does, by its name."""
