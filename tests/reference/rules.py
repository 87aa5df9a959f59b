"""The methods that keep parts of changes or walk on spheres, in dense float64, from their papers.

Slow and obvious on purpose: whole tensors, sorting, vectors that are really there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Deltas = Sequence[Tensor]


def deltas(base: Tensor, models: Sequence[Tensor]) -> list[Tensor]:
    """Formed in float32, as everywhere."""
    wide = any(t.dtype is torch.float64 for t in (base, *models))
    real = torch.float64 if wide else torch.float32
    return [(m.to(real) - base.to(real)).double() for m in models]


def largest(scores: Tensor, first: int, last: int) -> Tensor:
    """True for ranks [first, last), the largest first, of equals the lowest index."""
    order = torch.argsort(scores.flatten(), descending=True, stable=True)
    kept = torch.zeros(scores.numel(), dtype=torch.bool)
    kept[order[first:last]] = True
    return kept.reshape(scores.shape)


def consensus(
    parts: Deltas, weights: Sequence[float], *, elect: bool, normalize: bool, lam: float
) -> Tensor:
    weighted = torch.stack([w * p for w, p in zip(weights, parts, strict=True)])
    counts = torch.ones_like(weighted, dtype=torch.bool)
    if elect:
        sign = torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
        counts = weighted.sign() == sign
    total = (weighted * counts).sum(0)
    w = torch.tensor(list(weights), dtype=torch.float64).reshape(-1, *[1] * parts[0].dim())
    by = (w * counts).sum(0)
    if not elect and float(by.flatten()[0].abs()) < 1e-8:
        by = torch.ones_like(by)
    by = torch.where(by == 0, 1.0, by)
    return lam * (total / by if normalize else total)


def stretched(part: Tensor, whole: Tensor) -> Tensor:
    before, after = whole.abs().sum(), part.abs().sum()
    return part * (before / after) if before >= 1e-7 and after >= 1e-7 else part


def masked(
    base: Tensor,
    models: Sequence[Tensor],
    kept: Callable[[Tensor, int], Tensor],
    weights: Sequence[float],
    *,
    elect: bool = False,
    normalize: bool = False,
    rescale: bool = False,
    lam: float = 1.0,
) -> Tensor:
    """`kept(delta, i)` is a mask of model i's change."""
    parts = []
    for i, d in enumerate(deltas(base, models)):
        part = d * kept(d, i)
        parts.append(stretched(part, d) if rescale else part)
    return base.double() + consensus(parts, weights, elect=elect, normalize=normalize, lam=lam)


def ties_kept(density: float) -> Callable[[Tensor], Tensor]:
    def kept(d: Tensor) -> Tensor:
        k = d.numel() if density >= 1 else max(1, int(density * d.numel())) if density > 0 else 0
        return largest(d.abs(), 0, k)

    return kept


def middle_kept(density: float, gamma: float) -> Callable[[Tensor], Tensor]:
    def kept(d: Tensor) -> Tensor:
        n = d.numel()
        if density >= 1:
            return torch.ones_like(d, dtype=torch.bool)
        n_kept, n_top = int(density * n), int(gamma * n)
        first = min(n_top, n - n_kept)
        return largest(d.abs(), first, first + n_kept)

    return kept


def sce(base: Tensor, models: Sequence[Tensor], topk: float) -> Tensor:
    d = torch.stack(deltas(base, models))
    if topk < 1:
        spread = d.var(dim=0, unbiased=False)
        if base.dtype is not torch.float64:
            spread = spread.float().double()  # scores are compared as float32
        d = d * largest(spread, 0, int((spread != 0).sum() * topk))
    energies = d.square().reshape(len(models), -1).mean(1)
    total = energies.sum()
    w = energies / total if total >= 1e-6 else torch.full_like(energies, 1 / len(models))
    w = w.reshape(-1, *[1] * base.dim())
    counts = d.sign() == torch.where(d.sum(0) >= 0, 1.0, -1.0)
    return base.double() + (d * w * counts).sum(0) / (w * counts).sum(0).clamp(min=1e-6)


def arc(
    t: float, a: Tensor, b: Tensor, smallest: float, straight: Callable[[float], bool]
) -> Tensor:
    """Along the last dimension."""
    out = torch.empty_like(a)
    for i in itertools.product(*map(range, a.shape[:-1])):
        x, y = a[i], b[i]
        cos = float((x @ y) / (max(float(x.norm()), smallest) * max(float(y.norm()), smallest)))
        cos = min(1.0, max(-1.0, cos))
        if straight(cos):
            out[i] = (1 - t) * x + t * y
        else:
            angle = torch.arccos(torch.tensor(cos, dtype=torch.float64))
            out[i] = (torch.sin((1 - t) * angle) * x + torch.sin(t * angle) * y) / torch.sin(angle)
    return out


def slerp(base: Tensor, model: Tensor, t: float) -> Tensor:
    a, b = base.double().reshape(1, -1), model.double().reshape(1, -1)
    return arc(t, a, b, 1e-8, lambda c: abs(c) > 0.9995).reshape(base.shape)


def nuslerp(a: Tensor, b: Tensor, t: float, dim: int | None) -> Tensor:
    def straight(cos: float) -> bool:
        return 1 - cos**2 <= 1e-16

    if dim is None:
        return arc(t, a.reshape(1, -1), b.reshape(1, -1), 1e-7, straight).reshape(a.shape)
    turned = arc(t, a.movedim(dim, -1), b.movedim(dim, -1), 1e-7, straight)
    return turned.movedim(-1, dim)


def multislerp(vectors: Sequence[Tensor], weights: Sequence[float], eps: float = 1e-8) -> Tensor:
    flat = [v.double().flatten() for v in vectors]
    w = [x / sum(weights) for x in weights]
    norms = [v.norm() for v in flat]
    units = [v / (n + eps) for v, n in zip(flat, norms, strict=True)]
    mean = sum(x * u for x, u in zip(w, units, strict=True))
    mean = mean / mean.norm()
    tangent = sum(x * (u - (u @ mean) * mean) for x, u in zip(w, units, strict=True))
    angle = tangent.norm() + eps
    point = mean * torch.cos(angle) + tangent * torch.sin(angle) / angle
    return (point * sum(x * n for x, n in zip(w, norms, strict=True))).reshape(vectors[0].shape)


def karcher(vectors: Sequence[Tensor], max_iter: int = 10, tol: float = 1e-5) -> Tensor:
    flat = [v.double().flatten() for v in vectors]
    units = [v / v.norm() for v in flat]
    point = sum(units) / len(units)
    point = point / point.norm()
    for _ in range(max_iter):
        pulls = []
        for u in units:
            cos = (point @ u).clamp(-1, 1)
            angle = torch.arccos(cos)
            pulls.append(angle / torch.sin(angle) * (u - cos * point) if angle >= tol else 0 * u)
        step = sum(pulls) / len(pulls)
        size = step.norm()
        if size < tol:
            break
        point = torch.cos(size) * point + torch.sin(size) * step / size
        point = point / point.norm()
    return (point * sum(v.norm() for v in flat) / len(flat)).reshape(vectors[0].shape)


def model_stock(base: Tensor, models: Sequence[Tensor], *, rows: bool) -> Tensor:
    shape = (-1, base.shape[-1]) if rows and base.dim() else (1, -1)
    d = [x.reshape(shape) for x in deltas(base, models)]
    cosines = [
        ((a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1e-6)).clamp(-1, 1)
        for a, b in itertools.combinations(d, 2)
    ]
    cos, n = torch.stack(cosines).mean(0), len(d)
    by = 1 + (n - 1) * cos
    t = torch.where(by.abs() < 1e-6, 0.0, n * cos / by)[:, None]
    return base.double() + (t * sum(d) / n).reshape(base.shape)


def nearswap(base: Tensor, model: Tensor, t: float) -> Tensor:
    (d,) = deltas(base, [model])
    return base.double() + (t / d.abs().clamp(min=1e-6)).clamp(0, 1) * d


def arcee_fusion(base: Tensor, model: Tensor) -> tuple[Tensor, Tensor]:
    """The merge, and each element's importance over the threshold (1 is the threshold)."""
    (d,) = deltas(base, [model])
    x, b = (t.double().reshape(-1, t.shape[-1] if t.dim() else 1) for t in (model, base))
    p, q = torch.softmax(x, -1) + 1e-8, torch.softmax(b, -1) + 1e-8
    divergence = (p * torch.log(p / q)).sum(-1, keepdim=True)
    importance = (d.abs().reshape(x.shape) * divergence).reshape(base.shape)
    values = importance.flatten().sort().values
    low, middle, high = (values[int(share * (len(values) - 1))] for share in (0.25, 0.5, 0.75))
    threshold = middle + 1.5 * (high - low)
    return base.double() + d * (importance >= threshold), importance / threshold


def ram(
    base: Tensor, models: Sequence[Tensor], epsilon: float, r: float = 0.0, alpha: float = 0.0
) -> Tensor:
    d = torch.stack(deltas(base, models))
    active = d.abs() > epsilon
    count = active.sum(0)
    merged = base.double().clone()
    for i in range(len(models)):
        shared, own = int((active[i] & (count > 1)).sum()), int((active[i] & (count == 1)).sum())
        strength = 1 + r * min(max(shared / max(own, epsilon or 1.0), 0.0), alpha)
        merged += torch.where(active[i] & (count == 1), strength * d[i], 0.0)
        merged += torch.where(active[i] & (count > 1), d[i] / count.clamp(min=1), 0.0)
    return merged


def magmax(base: Tensor, models: Sequence[Tensor], scale: float) -> Tensor:
    found = torch.zeros_like(base, dtype=torch.float64)
    for d in deltas(base, models):
        found = torch.where(d.abs() >= found.abs(), d, found)
    return base.double() + scale * found


def consensus_arithmetic(
    base: Tensor,
    models: Sequence[Tensor],
    weights: Sequence[float],
    tall: float,
    agree: int,
    scale: float,
) -> Tensor:
    d = torch.stack(deltas(base, models))
    total = sum(w * x for w, x in zip(weights, d, strict=True))
    needed = (d.abs() >= tall * (total - d).abs()).sum(0)
    return base.double() + scale * torch.where(needed >= agree, total, 0.0)
