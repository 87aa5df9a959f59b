"""Model references: `path[@revision][+adapter[@revision]]`, or the same as a mapping.

Only the writing is judged here. Whether a path is a folder or a repository is for others to find
out, so a path may hold whatever a folder's name may; a revision is always the Hub's.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mdm_kit.recipe.keys import PATH_KEYS, REFERENCE_KEYS
from mdm_kit.recipe.nearest import did_you_mean
from mdm_kit.recipe.quoting import seen
from mdm_kit.recipe.scalars import Scalar, WrongValue
from mdm_kit.recipe.yaml_nodes import MappingNode, Node, kind_of
from mdm_kit.words import AdapterRef, ModelRef, Place

if TYPE_CHECKING:
    from mdm_kit.recipe.collector import Collector

MAX_PATH: Final = 4096
"""PATH_MAX of Linux; a Hub id has at most 96 + 1 + 96 characters."""

MAX_REVISION: Final = 255

_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/-]*[A-Za-z0-9._-])?")
_LOCAL_DIGEST = re.compile(r"(local:[^/\\]+?)@(sha256:[0-9a-f]{64})(?=\+|$)")
"""How a finished merge names a folder in its own recipe; the name may hold any `@` and `+`."""
_DRIVE = re.compile(r"[A-Za-z]:(?:[\\/]|$)")
_HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)?")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_AS_MAPPING = (
    "if the sign belongs to the name, write it as a mapping: "
    "{model: {path: ..., revision: ...}, lora: {path: ...}}"
)


@dataclass(frozen=True, slots=True)
class LocatedRef:
    """A model reference and where it stands.

    `span` is the half-open range of characters of the recipe's text that a quoted string may take
    the place of; `mergekit_form` is false for the short mapping `{path, revision}`.
    """

    ref: ModelRef
    place: Place
    span: tuple[int, int]
    mergekit_form: bool = True


def read_reference(node: Node, what: str, found: Collector) -> LocatedRef | None:
    """Return the reference `node` holds, or None with the reason in `found`.

    `what` names the key the reference belongs to, for messages.
    """
    if isinstance(node, Scalar):
        try:
            return LocatedRef(parse_reference(node), node.place, node.span)
        except WrongValue as problem:
            found.wrong(what, problem, node.place)
            return None
    if not isinstance(node, MappingNode):
        found.error(f"{what}: expected a model, found {kind_of(node)}", node.place)
        return None
    return _read_mapping(node, what, found)


def parse_reference(scalar: Scalar) -> ModelRef:
    """Return the reference written as `path[@revision][+adapter[@revision]]`.

    Raises WrongValue where it is empty, has a sign too many or can name nothing.
    """
    text = _text(scalar)
    local = _LOCAL_DIGEST.match(text)
    model, plus, adapter = text.partition("+")
    if local is not None:
        model, plus, adapter = local[0], text[local.end() :][:1], text[local.end() + 1 :]
    if "+" in adapter and not _LOCAL_DIGEST.fullmatch(adapter):
        raise WrongValue(f"found more than one '+' in '{seen(text)}'", _AS_MAPPING)
    path, revision = _split_revision(model, "the model")
    if not plus:
        return ModelRef(path, revision)
    return ModelRef(path, revision, AdapterRef(*_split_revision(adapter, "the adapter")))


def _text(scalar: Scalar) -> str:
    if scalar.is_null or not scalar.text:
        raise WrongValue("expected a model, found nothing", "write owner/name or a folder")
    if len(scalar.text) > 2 * (MAX_PATH + MAX_REVISION) + 3:  # before anything looks at it all
        raise WrongValue(f"found a reference of {len(scalar.text):,} characters")
    return scalar.text


def _split_revision(part: str, what: str) -> tuple[str, str | None]:
    """Return path and revision of `path[@revision]`."""
    if local := _LOCAL_DIGEST.fullmatch(part):
        return check_path(local[1], what), local[2]
    pieces = part.split("@")
    if len(pieces) > 2:
        raise WrongValue(f"found more than one '@' in '{seen(part)}'", _AS_MAPPING)
    path = check_path(pieces[0], what)
    if len(pieces) == 1:
        return path, None
    return path, _revision_of(path, pieces[1])


def _revision_of(path: str, revision: str) -> str:
    """Return the revision; only the Hub has any, so `path` must then be a Hub id."""
    if not _HUB_ID.fullmatch(path) or ".." in path:
        message = f"'{seen(path)}' is not a Hub id (owner/name), so it cannot have a revision"
        raise WrongValue(message, _AS_MAPPING)
    return check_revision(revision)


def check_path(path: str, what: str = "the model") -> str:
    """Return `path`; raises WrongValue where it can name neither a folder nor a repository."""
    brief = seen(path)
    if not path:
        raise WrongValue(f"{what} has no path", "write owner/name or a folder")
    if len(path) > MAX_PATH:
        raise WrongValue(f"expected a path of at most {MAX_PATH} characters, found {len(path)}")
    if any(unicodedata.category(c) in _INVISIBLE for c in path):
        raise WrongValue(f"the path '{brief}' holds a control or invisible character")
    if path != path.strip():
        raise WrongValue(f"the path '{brief}' starts or ends with a space")
    if "\\" in path or _DRIVE.match(path):
        hint = "drives and UNC paths are not supported; write folders with '/'"
        raise WrongValue(f"the path '{brief}' is a Windows path", hint)
    if "://" in path:
        raise WrongValue(f"expected owner/name or a folder, found the URL '{brief}'")
    return path


def check_revision(revision: str) -> str:
    """Return `revision`; raises WrongValue where it can be no branch, tag or commit."""
    brief = seen(revision)
    if not revision:
        raise WrongValue("the revision after '@' is empty", "drop the '@' for the main branch")
    fits = len(revision) <= MAX_REVISION and _REVISION.fullmatch(revision)
    if not fits or ".." in revision or "//" in revision:
        raise WrongValue(
            f"'{brief}' cannot be a revision",
            "a branch, tag or commit: letters, digits and . _ - /, without '..'",
        )
    return revision


def _read_mapping(node: MappingNode, what: str, found: Collector) -> LocatedRef | None:
    """Read `{model: ..., lora: ...}` or the short `{path, revision}`."""
    entries = {key.text: value for key, value in node.entries}
    short = "model" not in entries and "path" in entries
    known = PATH_KEYS if short else REFERENCE_KEYS
    clean = True
    for key, _ in node.entries:
        if key.text in known:
            continue
        clean = False
        if key.text == "override_architecture":
            found.error(
                f"{what}: 'override_architecture' is not available",
                key.place,
                "nothing here depends on a model's class; leave it out",
            )
        elif short and key.text == "lora":
            hint = "{model: {path: ..., revision: ...}, lora: {path: ...}}"
            found.error(f"{what}: 'lora' stands beside 'model', not beside 'path'", key.place, hint)
        else:
            found.unknown_key(key, known, f"in {what}")
    if not short and "model" not in entries:
        found.error(f"{what}: expected the keys {{path, revision}} or {{model, lora}}", node.place)
        return None
    if not clean:
        return None
    try:
        path, revision = _read_path(node if short else entries["model"], "the model")
        lora = entries.get("lora") if not short else None
        adapter = None
        if lora is not None and not (isinstance(lora, Scalar) and lora.is_null):
            adapter = AdapterRef(*_read_path(lora, "the adapter"))
    except WrongValue as problem:
        found.wrong(what, problem, node.place)
        return None
    ref = ModelRef(path, revision, adapter)
    return LocatedRef(ref, node.place, node.span, not short)


def _read_path(node: Node, what: str) -> tuple[str, str | None]:
    """Return path and revision of `path[@revision]` or `{path: ..., revision: ...}`."""
    if isinstance(node, Scalar):
        return _split_revision(_text(node), what)
    if not isinstance(node, MappingNode):
        raise WrongValue(f"expected {what}, found {kind_of(node)}")
    entries = {key.text: value for key, value in node.entries}
    for key in entries:
        if key not in PATH_KEYS:
            raise WrongValue(f"unknown key '{seen(key)}'{did_you_mean(key, PATH_KEYS)}")
    path, revision = entries.get("path"), entries.get("revision")
    if not isinstance(path, Scalar) or path.is_null:
        raise WrongValue(f"{what} has no path", "write owner/name or a folder")
    checked = check_path(path.text, what)
    if revision is None or (isinstance(revision, Scalar) and revision.is_null):
        return checked, None
    if not isinstance(revision, Scalar):
        raise WrongValue(f"expected a revision, found {kind_of(revision)}")
    return checked, _revision_of(checked, revision.text)
