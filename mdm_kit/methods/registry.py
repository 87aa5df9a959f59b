"""Finds merge methods: every module of this folder, and packages that offer an entry point.

An outside package offers a method through the entry-point group `mdm_kit.methods`, whose value is
a `Method`. A recipe names a method by its name alone and never by an import path.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points

import mdm_kit.methods
from mdm_kit.errors import MdmError
from mdm_kit.methods.contract import Method

ENTRY_POINT_GROUP = "mdm_kit.methods"
_NOT_METHODS = ("contract", "registry", "rules")


def _own() -> list[Method]:
    found = []
    for module in sorted(m.name for m in pkgutil.iter_modules(mdm_kit.methods.__path__)):
        if module in _NOT_METHODS:
            continue
        loaded = importlib.import_module(f"mdm_kit.methods.{module}")
        found += [value for value in vars(loaded).values() if isinstance(value, Method)]
    return found


@cache
def methods() -> dict[str, Method]:
    """Return every known method by name, sorted by name.

    Raises `MdmError` if two packages offer the same name or an entry point is no `Method`.
    """
    found = _own()
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: (e.name, e.value)):
        offered = entry.load()
        if not isinstance(offered, Method):
            raise MdmError(
                f"the entry point {entry.name!r} ({entry.value}) offers no merge method: expected "
                f"a Method made by mdm_kit.methods.contract.method, found {type(offered).__name__}"
            )
        found.append(offered)
    by_name: dict[str, Method] = {}
    for m in sorted(found, key=lambda m: m.name):
        if m.name in by_name:
            raise MdmError(f"two installed packages offer the merge method {m.name!r}")
        by_name[m.name] = m
    return by_name
