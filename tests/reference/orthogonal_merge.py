"""MDM-OC with every component really built, in dense float64."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Model = Mapping[str, Tensor]


def groups_of(names: Sequence[str], scope: str) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        layer = re.match(r"(.*layers\.\d+)\.", name)
        key = "all" if scope == "global" else layer[1] if scope == "layer" and layer else name
        groups.setdefault(key, []).append(name)
    return groups


def orthogonal(deltas: Tensor, how: str) -> Tensor:
    """(k, n) -> (k, n), by projection or by a singular value decomposition; no Gram matrix."""
    if how == "none" or not deltas.numel():
        return deltas
    if how == "lowdin":
        norms = deltas.norm(dim=1, keepdim=True)
        u, s, vt = torch.linalg.svd(deltas / norms.clamp(min=1e-300), full_matrices=False)
        live = (s > 1e-6 * s.max()).double()
        return norms * (u * live @ vt)
    out: list[Tensor] = []
    for d in deltas:
        e = d.clone()
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            for other in out:
                if other.norm() > 0:
                    e = e - (e @ other) / (other @ other) * other
        out.append(e if e.norm() > 1e-6 * d.norm() else torch.zeros_like(e))
    return torch.stack(out)


def mdm_oc(
    base: Model,
    models: Sequence[Model],
    alpha: Mapping[str, Sequence[float]],
    *,
    scope: str = "tensor",
    how: str = "gram_schmidt",
    lam: float = 1.0,
) -> dict[str, Tensor]:
    """`alpha` has one coefficient per model for each tensor."""
    names = [n for n, t in base.items() if t.dtype.is_floating_point]
    merged = {n: t.clone() for n, t in base.items()}
    for group in groups_of(names, scope).values():
        deltas = torch.stack(
            [
                torch.cat([(m[n].double() - base[n].double()).flatten() for n in group])
                for m in models
            ]
        )
        components = orthogonal(deltas, how)
        at = 0
        for n in group:
            size = base[n].numel()
            part = components[:, at : at + size]
            at += size
            step = torch.tensor(alpha[n], dtype=torch.float64) @ part
            merged[n] = base[n].double() + lam * step.reshape(base[n].shape)
    return merged
