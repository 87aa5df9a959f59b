"""The recipe that merges the demo's three skills into one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.recipe import quoted

if TYPE_CHECKING:
    from pathlib import Path

    from mdm_kit.demo.family import Family

WEIGHT = 0.7
"""Three whole task vectors push one another aside; at 0.7 each, every skill keeps working."""


def demo_recipe(family: Family) -> str:
    """Return the YAML text of an MDM-OC merge of the family's skills onto its base."""
    models = "\n".join(
        f"  - model: {_reference(skill.folder)}  # {skill.task.about}\n"
        f"    parameters: {{weight: {WEIGHT}}}"
        for skill in family.skills
    )
    return _RECIPE.format(base=_reference(family.base), models=models)


def _reference(folder: Path) -> str:
    """Return a folder as a recipe names it; as a mapping where it holds a reference's signs."""
    name = quoted(str(folder.absolute()))
    return f"{{model: {{path: {name}}}}}" if "@" in name or "+" in name else name


_RECIPE = """\
# One model with three skills. Each fine-tune differs from the base by a "task vector": its
# weights minus the base's. MDM-OC makes the vectors orthogonal to one another, in this order, and
# adds what is left of each, times its weight, to the base.
merge_method: mdm_oc

# What all three were fine-tuned from. A folder here; owner/name for a model on the Hub.
base_model: {base}

# The fine-tunes. A weight of 1.0 adds all that is new in a model, 0 none of it. Change one, merge
# again, and see one skill grow at the others' cost.
models:
{models}

# Number format of the merged weights. These models are stored in float32; large ones are
# mostly stored in bfloat16.
dtype: float32
"""
