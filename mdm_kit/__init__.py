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
    from mdm_kit.adapters.extracted import ExtractedLora
    from mdm_kit.api import merge, plan, push, push_findings, read_recipe, verify
    from mdm_kit.api_adapters import extract_lora
    from mdm_kit.api_diff import diff
    from mdm_kit.api_edits import Running, add, extract, unmerge
    from mdm_kit.api_inspect import inspect_recipe
    from mdm_kit.authoring.schema import recipe_schema
    from mdm_kit.ledger.manifest import Manifest
    from mdm_kit.recipe import Addition, Push

_WHERE = {
    "Addition": "mdm_kit.recipe",
    "ExtractedLora": "mdm_kit.adapters.extracted",
    "Manifest": "mdm_kit.ledger.manifest",
    "Push": "mdm_kit.recipe",
    "Running": "mdm_kit.api_edits",
    "add": "mdm_kit.api_edits",
    "diff": "mdm_kit.api_diff",
    "extract": "mdm_kit.api_edits",
    "extract_lora": "mdm_kit.api_adapters",
    "inspect_recipe": "mdm_kit.api_inspect",
    "merge": "mdm_kit.api",
    "plan": "mdm_kit.api",
    "push": "mdm_kit.api",
    "push_findings": "mdm_kit.api",
    "read_recipe": "mdm_kit.api",
    "recipe_schema": "mdm_kit.authoring.schema",
    "unmerge": "mdm_kit.api_edits",
    "verify": "mdm_kit.api",
}

__all__ = [
    "Addition",
    "ExtractedLora",
    "Manifest",
    "Push",
    "Running",
    "add",
    "diff",
    "errors",
    "extract",
    "extract_lora",
    "inspect_recipe",
    "merge",
    "plan",
    "push",
    "push_findings",
    "read_recipe",
    "recipe_schema",
    "unmerge",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name == "errors":
        return import_module("mdm_kit.errors")
    raise AttributeError(f"module 'mdm_kit' has no attribute {name!r}")
