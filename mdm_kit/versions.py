"""Versions that can change a merge's bytes."""

from __future__ import annotations

from importlib.metadata import version


def tool() -> str:
    """Return this package's name and version."""
    return f"mdm_kit {version('mdm-kit')}"


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that do arithmetic or write files."""
    return {name: version(name) for name in ("llvmlite", "mdm-kit", "numba", "numpy", "torch")}
