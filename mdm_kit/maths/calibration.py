"""SVC: the singular values of a merged change, lessened where models were counted over and over.

With D = U S Vᵀ the merged change and d_i those it was merged from, a direction u_r of its outputs
is answered by S_r v_rᵀ together and by u_rᵀ d_i of each model. What the former holds of the latter,

    t_ri = <S_r v_rᵀ, u_rᵀ d_i> / ‖u_rᵀ d_i‖²,    γ_r = N / Σ_i max(floor, t_ri),

is more than 1 where several models answer alike, and S_r becomes γ_r S_r (Li et al. 2026, When
Shared Knowledge Hurts, arXiv:2602.05536, Eq. 4 and 8, Algorithm 1). A model that does not answer in
a direction has no t_ri, and counts as 1: neither too much of it is there, nor too little.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdm_kit.errors import NotFiniteError
from mdm_kit.maths.changes import Changes, Lines, seen
from mdm_kit.maths.singular import Singular, cut_at, singular_of, write_left
from mdm_kit.maths.spectrum import NEGLIGIBLE
from mdm_kit.maths.strips import spans


def calibrated(changes: Changes, floor: float, tail_tol: float | None) -> Tensor:
    """Return U diag(γ S) Vᵀ (out, in) float64, in one pass, where D is the first of the changes.

    There are two changes at least, and `floor` is above zero. Raises `NotFiniteError` where one of
    them is not finite.
    """
    n = len(changes) - 1
    every = iter(changes)
    first = next(every)
    merged, turned = seen(first), first.rows < first.columns
    found = singular_of(merged, cut_at(tail_tol, changes.edges[:1]))
    room = torch.empty(merged.long, merged.short, dtype=torch.float64)
    left = room[:, : len(found.values)]
    write_left(merged, found, left)
    del merged
    counted = torch.zeros_like(found.values)
    for change in every:
        held = _held_of_each(seen(change), found, left, turned=turned)
        counted += held.clamp_(min=floor)
    core = (n / counted * found.values)[:, None] * found.vectors
    for start, count in spans(len(room)):
        room[start : start + count] = left[start : start + count] @ core
    return room.mT if turned else room


def _held_of_each(given: Lines, found: Singular, left: Tensor, *, turned: bool) -> Tensor:
    """Return t_ri for every r, (k,)."""
    size = torch.zeros((), dtype=torch.float64)
    own, shared = torch.zeros_like(found.values), torch.zeros_like(found.values)
    answers = torch.zeros(len(own), given.short, dtype=torch.float64)
    for start, count in spans(given.long):
        lines, along = given.lines(start, count), left[start : start + count]
        size += lines.square().sum()
        if turned:  # output features are the shorter side's: whole answers a part at a time
            part = lines @ found.vectors.mT
            own += part.square().sum(0)
            shared += (part * along).sum(0)
        else:
            answers.addmm_(along.mT, lines)
    if not math.isfinite(float(size)):
        raise NotFiniteError("a change holds a NaN or an infinity")
    if not turned:
        own, shared = answers.square().sum(1), (answers * found.vectors).sum(1)
    answered = own > NEGLIGIBLE**2 * size
    return torch.where(answered, found.values * shared / own, 1.0)
