"""mdm_kit merges fine-tuned models from a recipe and keeps enough to take the merge apart.

    import mdm_kit
    with mdm_kit.plan("recipe.yml") as plan:
        print(plan.costs.read_nbytes)
    merged = mdm_kit.merge("recipe.yml", "out")
    assert mdm_kit.verify("out").sound

Importing the package imports neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdm_kit.api import merge, plan, read_recipe, verify
    from mdm_kit.ledger.manifest import Manifest

_WHERE = {
    "Manifest": "mdm_kit.ledger.manifest",
    "merge": "mdm_kit.api",
    "plan": "mdm_kit.api",
    "read_recipe": "mdm_kit.api",
    "verify": "mdm_kit.api",
}

__all__ = ["Manifest", "errors", "merge", "plan", "read_recipe", "verify"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name == "errors":
        return import_module("mdm_kit.errors")
    raise AttributeError(f"module 'mdm_kit' has no attribute {name!r}")
