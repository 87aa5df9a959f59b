"""The chat template a recipe asks for: a word, or the template itself. It is never rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mdm_kit.recipe.nearest import did_you_mean
from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.scalars import Scalar
from mdm_kit.recipe.yaml_nodes import Node, kind_of

if TYPE_CHECKING:
    from mdm_kit.recipe.collector import Collector

AUTO: Final = "auto"
"""The template most of the models have."""
TEMPLATE_NAMES: Final = ("alpaca", "chatml", "exaone", "llama3", "mistral")
"""Templates that are known by name, as in mergekit."""
MIN_TEMPLATE: Final = 20
"""Characters of a template at least: a shorter text is a misspelt name."""


def read_chat_template(node: Node, found: Collector) -> Scalar | None:
    """Return `auto`, a name of `TEMPLATE_NAMES` or a Jinja text; None with a finding otherwise."""
    if not isinstance(node, Scalar):
        found.error(f"chat_template: expected a text, found {kind_of(node)}", node.place)
        return None
    text = node.text
    words = (AUTO, *TEMPLATE_NAMES)
    if text in words:
        return node
    if len(text) >= MIN_TEMPLATE and "{" in text:
        return node
    found.error(
        f"chat_template: expected one of {', '.join(words)}, or a Jinja template of at least "
        f"{MIN_TEMPLATE} characters with a '{{', found '{seen(text)}'{did_you_mean(text, words)}",
        node.place,
    )
    return None
