"""Families with a chosen angle between their models, merged from disk, and what merges leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from families import Spec, tensors, write_model
from safetensors.torch import load_file
from torch import Tensor

import mdm_kit

Model = dict[str, Tensor]
Pair = frozenset[str]

KINDS = ("0", "0.02", "0.3", "0.9", "0.999999999", "copy", "zero")
"""The cosine of any two deltas; or the third model repeats the first; or the second is the base."""

BLOCK = 65_536

CROSSING: Spec = {
    "model.embed_tokens.weight": ((70_001,), torch.float32),
    "model.layers.0.attn.weight": ((3, BLOCK), torch.bfloat16),
    "model.layers.0.mlp.weight": ((257, 9), torch.float16),
    "model.layers.0.norm.weight": ((BLOCK,), torch.float32),
    "model.layers.1.mlp.weight": ((BLOCK + 1,), torch.float64),
    "model.layers.1.scale": ((), torch.float32),
    "model.empty": ((0, 7), torch.float32),
    "model.ids": ((5,), torch.int64),
}
"""Sizes before, at and after the border of a block, in every dtype that is merged."""


def related(base: Mapping[str, Tensor], kind: str, n: int = 3, size: float = 0.01) -> list[Model]:
    """Return n fine-tunes of a base; each delta is about `size` per element."""
    generator = torch.Generator().manual_seed(11)
    cosine = 0.3 if kind in ("copy", "zero") else float(kind)
    models: list[Model] = [{} for _ in range(n)]
    for name, t in base.items():
        if not t.dtype.is_floating_point:
            for m in models:
                m[name] = t.clone()
            continue
        noise = torch.randn((n + 1, *t.shape), generator=generator, dtype=torch.float64)
        deltas = [cosine**0.5 * noise[n] + (1 - cosine) ** 0.5 * noise[i] for i in range(n)]
        if kind == "copy":
            deltas[2] = deltas[0]
        if kind == "zero":
            deltas[1] = torch.zeros_like(deltas[1])
        for m, d in zip(models, deltas, strict=True):
            m[name] = (t.double() + size * d).to(t.dtype)
    return models


def write_models(root: Path, base: Model, models: Sequence[Model]) -> None:
    """Write `base`, `m1`, `m2`, ... under `root`."""
    write_model(root / "base", base)
    for i, m in enumerate(models, start=1):
        write_model(root / f"m{i}", m)


def write_related(
    root: Path, kind: str, spec: Spec = CROSSING, n: int = 3, size: float = 0.01
) -> tuple[Model, list[Model]]:
    base = tensors(spec, 0)
    models = related(base, kind, n, size)
    write_models(root, base, models)
    return base, models


def recipe(
    root: Path,
    alpha: Sequence[object] = (1.0, 0.7, -0.4),
    parameters: str = "",
    extra: str = "",
    *,
    method: str = "mdm_oc",
    names: Sequence[str] = (),
) -> str:
    """A recipe for m1, m2, ..., or the models `names`, with one weight each."""
    names = names or [f"m{i}" for i in range(1, len(alpha) + 1)]
    models = "".join(
        f"  - {{model: {root}/{name}, parameters: {{weight: {a}}}}}\n"
        for name, a in zip(names, alpha, strict=True)
    )
    return (
        f"merge_method: {method}\nbase_model: {root}/base\nmodels:\n{models}"
        f"parameters: {{{parameters}}}\n{extra}\n"
    )


def manifest_of(out: Path) -> mdm_kit.Manifest:
    return mdm_kit.Manifest.from_bytes((out / "mdm_manifest.json").read_bytes())


def triangles(out: Path) -> dict[str, tuple[float, ...]]:
    """The ledger's rows by tensor."""
    ledger = manifest_of(out).ledger
    assert ledger is not None
    rows = load_file(out / ledger.file)["gram"]
    assert rows.dtype == torch.float64
    return dict(zip(ledger.tensors, map(tuple, rows.tolist()), strict=True))


def products(out: Path) -> dict[str, dict[Pair, float]]:
    """The ledger's inner products by tensor and by the names of the two models."""
    ledger = manifest_of(out).ledger
    assert ledger is not None
    names = ledger.models
    pairs = [frozenset((names[i], names[j])) for i in range(len(names)) for j in range(i + 1)]
    return {t: dict(zip(pairs, row, strict=True)) for t, row in triangles(out).items()}


def promised(out: Path) -> dict[str, bytes]:
    """Every file whose bytes depend on nothing but the models and the recipe."""
    return {
        p.name: p.read_bytes()
        for p in sorted(out.iterdir())
        if p.suffix == ".safetensors" or p.name in ("config.json", "model.safetensors.index.json")
    }


def floating(model: Mapping[str, Tensor]) -> list[str]:
    return [n for n, t in model.items() if t.dtype.is_floating_point]
