"""OPCM in dense float64 from full singular value decompositions, straight from the definitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Model = Mapping[str, Tensor]
Maps = Mapping[str, Callable[[Tensor], Sequence[Tensor]]]


def split_rank(sigma: Tensor, alpha: float, live: int) -> int:
    """The first index whose cumulated share of the sum exceeds alpha; no dead direction counts."""
    counted = torch.where(sigma >= 1e-7 * sigma.max(), sigma, torch.zeros_like(sigma))
    share = counted.cumsum(0) / counted.sum()
    above = [i for i, s in enumerate(share.tolist()) if s > alpha]
    return min(live, above[0] if above and alpha < 1 else live)


def projected(
    change: Tensor,
    total: Tensor,
    *,
    alpha: float,
    variant: str,
    tail_tol: float = 1e-7,
    edge: float = 0.0,
) -> Tensor:
    """P(change; total), both (m, n); live are values above tail_tol times the largest, and edge."""
    return step(change, total, alpha=alpha, variant=variant, tail_tol=tail_tol, edge=edge)[0]


def step(
    change: Tensor, total: Tensor, *, alpha: float, variant: str, tail_tol: float, edge: float
) -> tuple[Tensor, int]:
    """P(change; total) by a mask over all m x n coefficients, and the rank of the head."""
    d, s = change.double(), total.double()
    if not s.any():
        return d, 0
    u, sigma, vh = torch.linalg.svd(s, full_matrices=True)
    live = int((sigma > max(tail_tol * float(sigma[0]), edge)).sum())
    k = split_rank(sigma, alpha, live)
    kept = torch.ones_like(s)
    if variant == "paper":
        kept[:k, :] = 0
        kept[:, :k] = 0
    else:
        kept[:k, :k] = 0
    if variant != "legacy":
        i = torch.arange(k, live)
        kept[i, i] = 0
    return u @ (kept * (u.mT @ d @ vh.mT)) @ vh, k


@dataclass
class Summed:
    """S_t of every tensor after each model, squared norms by tensor, and the ranks of heads."""

    sums: list[dict[str, Tensor]]
    energies: dict[str, list[float]]
    kept: dict[str, list[float]]
    ranks: dict[str, list[list[int]]]

    def scale(self, names: Collection[str], n: int | None = None) -> float:
        """The mean of the first n models' norms over the norm of their sum, over some tensors."""
        n = n or len(self.sums)
        norms = [math.sqrt(sum(self.energies[x][t] for x in names)) for t in range(n)]
        return sum(norms) / n / norm({x: self.sums[n - 1][x] for x in names})


def summed(
    base: Model,
    models: Sequence[Model],
    maps: Maps,
    *,
    alpha: float,
    variant: str = "reference",
    tail_tol: float | None = 1e-7,
    stored: torch.dtype = torch.float32,
) -> Summed:
    """The sums of the models' changes, kept in `stored` from step to step.

    `maps` gives views (out, in) of each tensor that holds linear maps. Without `tail_tol` it is
    1e-7 or what rounding of the model that joins, as it is stored, makes of the base's size.
    """
    sums = {n: torch.zeros_like(x, dtype=torch.float64) for n, x in base.items()}
    ranks = {n: [[] for _ in views(base[n])] for n, views in maps.items()}
    found = Summed([], {n: [] for n in base}, {n: [] for n in base}, ranks)
    for model in models:
        for name, s in sums.items():
            d = model[name].double() - base[name].double()
            added = d.clone()
            for i, part in enumerate(maps[name](added) if name in maps else ()):
                before, own = maps[name](s)[i], maps[name](base[name].double())[i]
                u = torch.finfo(model[name].dtype).eps / 2
                noise = u * float(own.square().mean().sqrt()) * sum(x**0.5 for x in own.shape)
                edge = 0.0 if tail_tol is not None else noise / 3**0.5
                tol = 1e-7 if tail_tol is None else tail_tol
                new, k = step(part, before, alpha=alpha, variant=variant, tail_tol=tol, edge=edge)
                part.copy_(new)
                found.ranks[name][i].append(k)
            energy = float(d.square().sum())
            found.energies[name].append(energy)
            found.kept[name].append(float(added.square().sum()) / energy if energy else 0.0)
            s.add_(added).copy_(s.to(stored).double())
        found.sums.append({n: s.clone() for n, s in sums.items()})
    return found


def opcm(
    base: Model,
    models: Sequence[Model],
    linear: Collection[str],
    *,
    alpha: float,
    variant: str = "reference",
    stored: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """The merged model in float64; the tensors `linear` are one map each."""
    maps = {n: (lambda x: [x]) for n in linear}
    found = summed(base, models, maps, alpha=alpha, variant=variant, stored=stored)
    return {n: base[n].double() + found.scale(base) * s for n, s in found.sums[-1].items()}


def norm(model: Model) -> float:
    return float(torch.cat([x.flatten() for x in model.values()]).norm())
