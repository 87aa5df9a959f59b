"""The settings of a push: where a merge is published, when somebody asks for it to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdm_kit.recipe import keys
from mdm_kit.recipe.models import known_entries
from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.scalars import Scalar, WrongValue
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, kind_of

if TYPE_CHECKING:
    from mdm_kit.recipe.collector import Collector

MAX_REPO = 200
MAX_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class Push:
    """Where a merge is published: `owner/name` on the Hub, and how.

    `private` None means: private if the repository is new, as it is if it is not. `revision` is a
    branch, `main` if None, made if it is missing; `message` is the commit's title.
    """

    repo: str
    private: bool | None = None
    revision: str | None = None
    message: str | None = None


def read_push(node: Node, found: Collector) -> Push | None:
    """Return the settings under `push`, None with a finding where they say no repository."""
    form = "push: {repo: you/name}"
    if not isinstance(node, MappingNode):
        message = f"push: expected a mapping, found {kind_of(node)}"
        found.error(message, node.place, f"write {form}")
        return None
    values = known_entries(node, keys.PUSH_KEYS, {}, "of push", found)
    if "repo" not in values:
        found.error("push has no 'repo'", node.place, f"write {form}")
    repo = _text("repo", values, MAX_REPO, found)
    private = _boolean("private", values, found)
    revision = _text("revision", values, MAX_REPO, found)
    title = _text("message", values, MAX_MESSAGE, found)
    return None if repo is None else Push(repo, private, revision, title)


def _text(key: str, values: dict[str, Node], limit: int, found: Collector) -> str | None:
    node = values.get(key)
    if node is None or (isinstance(node, Scalar) and node.is_null and key != "repo"):
        return None
    if not isinstance(node, Scalar) or node.is_null:
        what = "nothing" if isinstance(node, Scalar) else kind_of(node)
        found.error(f"push.{key}: expected a text, found {what}", node.place)
        return None
    if not node.text.strip() or not node.text.isprintable() or len(node.text) > limit:
        wanted = f"expected a line of at most {limit} printable characters"
        found.error(f"push.{key}: {wanted}, found '{seen(node.text)}'", node.place)
        return None
    return node.text


def _boolean(key: str, values: dict[str, Node], found: Collector) -> bool | None:
    node = values.get(key)
    if node is None or (isinstance(node, Scalar) and node.is_null):
        return None
    if not isinstance(node, Scalar):
        found.error(f"push.{key}: expected true or false, found {kind_of(node)}", node.place)
        return None
    try:
        return node.as_boolean()
    except WrongValue as problem:
        found.wrong(f"push.{key}", problem, node.place)
        return None
