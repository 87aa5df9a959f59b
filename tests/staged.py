"""Recipes of several stages, and the same merges one by one, each stage in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mdm_kit


def filled(root: Path, text: str) -> str:
    """Return a recipe with BASE, M1, M2, ... as the models of a family under `root`."""
    for name in ("base", "m1", "m2", "m3"):
        text = text.replace(name.upper(), str(root / name))
    return text


def one_by_one(text: str, folder: Path, **options: Any) -> Path:
    """Merge each document into a folder; later ones read it. Return the last one's."""
    folder.mkdir()
    out = folder / "result"
    made: dict[str, Path] = {}
    for part in text.split("---\n"):
        document = part
        for name, path in made.items():
            document = document.replace(f"model: {name}", f"model: {path}")
        lines = [x[6:] for x in document.splitlines() if x.startswith("name: ")]
        name = lines[0] if lines else "result"
        made[name] = out = folder / name
        mdm_kit.merge(document, out, **options)
    return out


def content(out: Path) -> dict[str, bytes]:
    """Everything whose bytes are promised."""
    names = [*out.glob("*.safetensors"), *out.glob("*.index.json"), out / "config.json"]
    return {p.name: p.read_bytes() for p in sorted(names) if "mdm" not in p.name and p.is_file()}
