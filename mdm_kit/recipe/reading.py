"""YAML text to a `Recipe`, with everything that is wrong with it said at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.errors import RecipeError, UsageError
from mdm_kit.recipe.chat_template import read_chat_template
from mdm_kit.recipe.collector import Collector
from mdm_kit.recipe.decoding import decode
from mdm_kit.recipe.keys import OWN_KEYS, TOP_KEYS, TOP_REFUSED
from mdm_kit.recipe.mixtures import read_mixture
from mdm_kit.recipe.model import ModelEntry, Module, Parameter, Recipe, Slice
from mdm_kit.recipe.models import known_entries, read_models, read_name
from mdm_kit.recipe.options import (
    check_coefficients,
    read_dtype,
    read_ledger,
    read_license,
    read_on_mismatch,
    read_seed,
)
from mdm_kit.recipe.parameters import read_parameters
from mdm_kit.recipe.push import read_push
from mdm_kit.recipe.references import LocatedRef, read_reference
from mdm_kit.recipe.report import render
from mdm_kit.recipe.scalars import START, Scalar
from mdm_kit.recipe.slices import joined, named_alike, read_modules, read_slices
from mdm_kit.recipe.stages import in_stages
from mdm_kit.recipe.tokenizer import Tokenizer, read_tokenizer, read_tokenizer_source
from mdm_kit.recipe.yaml_nodes import MAX_BYTES, MappingNode, Node, kind_of
from mdm_kit.recipe.yaml_reader import read_documents
from mdm_kit.words import Finding, Level, shown

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


_WHAT = ("models", "slices", "modules", "experts")
"""Keys that say what is merged; a recipe has one of them."""
MIXTURE = "moe"
"""The method of recipes with experts."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came of reading a recipe.

    `recipe` is None only where nothing usable could be built; beside errors it holds what could be
    read, so that later checks can add their findings to the same report. Never run a recipe
    whose `ok` is false.
    """

    recipe: Recipe | None
    findings: tuple[Finding, ...]
    text: str
    filename: str

    @property
    def ok(self) -> bool:
        """Whether there is a recipe and no finding is an error."""
        return self.recipe is not None and all(f.level is not Level.ERROR for f in self.findings)

    def render(self) -> str:
        """Return every finding with its source line, for a terminal."""
        return render(self.findings, self.text, self.filename)

    def require(self) -> Recipe:
        """Return the recipe; raises RecipeError with every finding where there is an error."""
        if self.recipe is None or not self.ok:
            raise RecipeError(self.render())
        return self.recipe


def load_recipe_file(path: str | os.PathLike[str]) -> Parsed:
    """Return what is in the recipe file at `path`, of which at most 1 MiB and a byte is read.

    Raises UsageError where the file cannot be read; what is wrong in it becomes findings.
    """
    file = Path(path)
    name = shown(file.name or str(file))
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"expected a recipe file, found no file called '{name}'") from None
    except IsADirectoryError:
        raise UsageError(f"expected a recipe file, found the folder '{name}'") from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        reason = getattr(problem, "strerror", None) or problem
        raise UsageError(f"the recipe '{name}' cannot be read: {reason}") from None
    return read_recipe_text(data, filename=name)


def read_recipe_text(text: str | bytes, *, filename: str = "recipe.yml") -> Parsed:
    """Return the recipe in `text` and everything that is wrong with it; raises nothing.

    `filename` is only for the report.
    """
    found = Collector()
    source, readable = decode(text, found)
    roots = read_documents(source, found) if readable else ()
    recipes = [_read_root(root, source, found) for root in roots]
    whole = [recipe for recipe in recipes if recipe is not None]
    recipe = in_stages(whole, found) if whole and len(whole) == len(recipes) else None
    return Parsed(recipe, found.done(), source, filename)


def _read_root(root: Node, text: str, found: Collector) -> Recipe | None:
    if not isinstance(root, MappingNode):
        message = f"expected a recipe, a mapping of keys, found {kind_of(root)}"
        found.error(message, root.place, "a recipe starts like this: merge_method: linear")
        return None
    values = known_entries(root, TOP_KEYS, TOP_REFUSED, "of the recipe", found)
    method = _read_method(values, root, found)
    written = {key.text for key, _ in root.entries}
    if not written & set(_WHAT):
        found.error("the recipe has no 'models'", START, "list the models to merge under 'models'")
    what = [key for key in _WHAT if key in values and not _null(values[key])]
    if len(what) > 1:
        message = f"'{what[0]}' and '{what[1]}' both say what is merged; keep one of them"
        found.error(message, values[what[1]].place)
    _check_options(values, found)
    base = values.get("base_model")
    base_ref = read_reference(base, "base_model", found) if base and not _null(base) else None
    models = read_models(values["models"], found) if "models" in values else ()
    none: tuple[Parameter, ...] = ()
    parameters = _take(values, "parameters", read_parameters, found, none)
    modules: tuple[Module, ...] = ()
    mixture = None
    if "experts" in values and not _null(values["experts"]):
        models, mixture = read_mixture(values, found)
    elif "models" not in values:
        models, parameters, modules = _read_pieces(values, parameters, found)
    tokenizer = _read_tokenizer(values, found)
    recipe = Recipe(
        text=text,
        merge_method=method or Scalar(""),
        models=models,
        base_model=base_ref,
        parameters=parameters,
        modules=modules,
        mixture=mixture,
        dtype=_take(values, "dtype", lambda n, f: read_dtype("dtype", n, f), found, None),
        out_dtype=_take(
            values, "out_dtype", lambda n, f: read_dtype("out_dtype", n, f), found, None
        ),
        seed=_take(values, "seed", read_seed, found, 0),
        name=_take(values, "name", read_name, found, None),
        license=_take(values, "license", read_license, found, None),
        ledger=_take(values, "ledger", read_ledger, found, "references"),
        on_mismatch=_take(values, "on_mismatch", read_on_mismatch, found, "error"),
        push=_take(values, "push", read_push, found, None),
        tokenizer=tokenizer,
        chat_template=_take(values, "chat_template", read_chat_template, found, None),
        dialect=_in_dialect(root, models, base_ref, tokenizer),
        places=tuple((key.text, value.place) for key, value in root.entries),
    )
    return recipe if method is not None else None


def _read_pieces(
    values: dict[str, Node], parameters: tuple[Parameter, ...], found: Collector
) -> tuple[tuple[ModelEntry, ...], tuple[Parameter, ...], tuple[Module, ...]]:
    """Return models, parameters and modules of a recipe that has slices or modules.

    One slice on the recipe's own base is models with a range of layers, and no module.
    """
    none: tuple[Slice, ...] = ()
    slices = _take(values, "slices", read_slices, found, none)
    if len(slices) == 1 and slices[0].base_model is None:
        return slices[0].models, joined(slices[0].parameters, parameters), ()
    no_modules: tuple[Module, ...] = ()
    modules = _take(values, "modules", read_modules, found, no_modules)
    if slices:
        modules = (Module(None, slices, place=values["slices"].place),)
    models, modules = named_alike(modules, found)
    return models, parameters, modules


def _null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null


def _take(
    values: dict[str, Node],
    key: str,
    read: Callable[[Node, Collector], T],
    found: Collector,
    default: T,
) -> T:
    """Return what `read` makes of a key's value; an absent or null key has its default."""
    node = values.get(key)
    return default if node is None or _null(node) else read(node, found)


def _read_method(values: dict[str, Node], root: MappingNode, found: Collector) -> Scalar | None:
    """Return the name of the method; mergekit-moe's recipes have none, for there is but one."""
    node, experts = values.get("merge_method"), values.get("experts")
    experts = None if experts is not None and _null(experts) else experts
    named = isinstance(node, Scalar) and node.text
    if experts is not None and (node is None or _null(node)):
        return Scalar(MIXTURE, place=experts.place)
    if node is not None and (named == MIXTURE) != (experts is not None):
        found.error(
            f"merge_method: {MIXTURE} goes with 'experts', and 'experts' with it",
            node.place,
            "write experts: [{source_model: owner/name, positive_prompts: [...]}]",
        )
    if node is None:
        hint = "mdm-kit methods lists what there is"
        found.error("the recipe has no 'merge_method'", root.place, hint)
        return None
    if not isinstance(node, Scalar) or node.is_null or not node.text:
        what = "an empty text" if isinstance(node, Scalar) and not node.is_null else kind_of(node)
        found.error(f"merge_method: expected the name of a method, found {what}", node.place)
        return None
    return node


def _check_options(values: dict[str, Node], found: Collector) -> None:
    """Check the key that has only one value so far, and so leaves nothing in the recipe."""
    coefficients = values.get("coefficients")
    if coefficients is not None and not _null(coefficients):
        check_coefficients(coefficients, found)


def _read_tokenizer(values: dict[str, Node], found: Collector) -> Tokenizer | None:
    source, tokenizer = values.get("tokenizer_source"), values.get("tokenizer")
    if source is not None and tokenizer is not None and not _null(source) and not _null(tokenizer):
        message = "'tokenizer' and 'tokenizer_source' say the same thing; keep one of them"
        found.error(message, tokenizer.place)
    short = _take(values, "tokenizer_source", read_tokenizer_source, found, None)
    return _take(values, "tokenizer", read_tokenizer, found, None) or short


def _in_dialect(
    root: MappingNode,
    entries: tuple[ModelEntry, ...],
    base: LocatedRef | None,
    tokenizer: Tokenizer | None,
) -> bool:
    """Return whether mergekit would read the same file: only its keys, its form of references."""
    own_key = any(key.text in OWN_KEYS for key, _ in root.entries)
    references = [e.located for e in entries] + ([base] if base else [])
    references += tokenizer.references if tokenizer else ()
    return (
        not own_key
        and all(r.mergekit_form for r in references)
        and not any(e.named for e in entries)
    )
