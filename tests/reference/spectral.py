"""The spectral merges from their definitions, by numpy's SVD, in dense float64.

A direction below 1e-7 of the largest singular value is none, as the methods say, nor one below what
rounding of the stored weights makes, which is given for each change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
DEAD = 1e-7


def svd(d: Matrix, least: float | np.floating = 0.0) -> tuple[Matrix, Matrix, Matrix]:
    """Return U (out, k), S (k,) and Vᵀ (k, in) of what is live."""
    u, s, vt = np.linalg.svd(d, full_matrices=False)
    k = int(np.sum(s > max(DEAD * s[0], least)))
    return u[:, :k], s[:k], vt[:k]


def polar(x: Matrix) -> Matrix:
    u, _, vt = svd(x)
    return u @ vt


def iso_c(deltas: Sequence[Matrix], edges: Sequence[float]) -> Matrix:
    u, s, vt = svd(sum(deltas), np.linalg.norm(edges))  # type: ignore[arg-type]
    return s.mean() * (u @ vt) if len(s) else np.zeros_like(deltas[0])


def joined(parts: Sequence[tuple[Matrix, Matrix, Matrix]], *, flat: bool) -> Matrix:
    """Return the triplets side by side, their bases made orthonormal; `flat` evens the values."""
    u = np.hstack([p[0] for p in parts])
    s = np.concatenate([p[1] for p in parts])
    vt = np.vstack([p[2] for p in parts])
    if not len(s):
        return np.zeros((u.shape[0], vt.shape[1]))
    s = np.full_like(s, s.mean()) if flat else s
    return polar(u) @ np.diag(s) @ polar(vt)


def tsv_m(deltas: Sequence[Matrix], edges: Sequence[float]) -> Matrix:
    rank = max(1, min(deltas[0].shape) // len(deltas))
    found = [svd(d, edge) for d, edge in zip(deltas, edges, strict=True)]
    return joined([(u[:, :rank], s[:rank], vt[:rank]) for u, s, vt in found], flat=False)


def iso_cts(deltas: Sequence[Matrix], edges: Sequence[float], common: float) -> Matrix:
    n, k = min(deltas[0].shape), len(deltas)
    each = min(round((n - int(n * common)) / k), n // k)
    u, s, vt = svd(sum(deltas), np.linalg.norm(edges))  # type: ignore[arg-type]
    shared = n - k * each
    u, s, vt = u[:, :shared], s[:shared], vt[:shared]
    parts = []
    for d, edge in zip(deltas, edges, strict=True):
        # Where noise of the sum has turned u, so much of d is left that is not its own.
        tilt = max(np.linalg.norm(u.T @ d, axis=1) / s, default=0.0)
        noise = np.hypot(edge, tilt * np.linalg.norm(edges))
        us, ss, vs = svd(d - u @ (u.T @ d), max(noise, DEAD * np.linalg.norm(d)))
        parts.append((us[:, :each], ss[:each], vs[:each]))
    return joined([*parts, (u, s, vt)], flat=True)


def nullspace(deltas: Sequence[Matrix], edges: Sequence[float], rank: int, energy: float) -> Matrix:
    total = deltas[0].copy()
    for i, d in enumerate(deltas[1:], start=1):
        _, s, vt = svd(total, np.linalg.norm(edges[:i]))
        reached = 0.0
        r = 0
        while r < min(rank, len(s)) and (energy >= 1 or reached < energy):
            reached += s[r] ** 2 / np.sum(s * s)
            r += 1
        total = total + d - (d @ vt[:r].T) @ vt[:r]
    return total


def svc(merged: Matrix, edge: float, deltas: Sequence[Matrix], floor: float) -> Matrix:
    u, s, vt = svd(merged, edge)
    scaled = s.copy()
    for r in range(len(s)):
        whole = u[:, r] @ merged
        shares = []
        for d in deltas:
            own = u[:, r] @ d
            heard = np.linalg.norm(own) > DEAD * np.linalg.norm(d)
            shares.append(max(floor, whole @ own / (own @ own)) if heard else 1.0)
        scaled[r] *= len(deltas) / sum(shares)
    return u @ np.diag(scaled) @ vt


def knots(
    deltas: Sequence[Matrix], edges: Sequence[float], weights: Sequence[float], density: float
) -> Matrix:
    u, s, vt = svd(np.hstack(deltas), np.linalg.norm(edges))
    parts = np.split(vt, len(deltas), axis=1)
    total, count = np.zeros_like(parts[0]), np.zeros_like(parts[0])
    dust = DEAD * np.abs(vt).max(initial=0)
    trimmed = [np.where(np.abs(p) < dust, 0, trim(p, density)) for p in parts]
    sign = np.where(sum(w * p for w, p in zip(weights, trimmed, strict=True)) >= 0, 1.0, -1.0)
    for w, p in zip(weights, trimmed, strict=True):
        agrees = np.sign(w * p) == sign
        total += w * p * agrees
        count += w * agrees
    return u @ np.diag(s) @ (total / np.where(count == 0, 1.0, count))


def trim(x: Matrix, density: float) -> Matrix:
    kept = np.argsort(-np.abs(x), axis=None, kind="stable")[: max(1, int(density * x.size))]
    out = np.zeros(x.size)
    out[kept] = x.ravel()[kept]
    return out.reshape(x.shape)
