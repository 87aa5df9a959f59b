"""Recipes: YAML text in mergekit's dialect to a typed `Recipe`, every value with its place.

`read_recipe_text` and `load_recipe_file` return a `Parsed`: the recipe and everything wrong with
it, at once. Scalars keep their text until a reader asks for a type; `compile_setting` says which
value a parameter has for a tensor. Nothing here knows methods, models, network or clock.
"""

from mdm_kit.recipe.chat_template import AUTO, TEMPLATE_NAMES
from mdm_kit.recipe.editing import Addition, edited_text
from mdm_kit.recipe.model import (
    Expert,
    Filtered,
    Filters,
    Gradient,
    Mixture,
    ModelEntry,
    Module,
    Parameter,
    Recipe,
    Setting,
    Slice,
    find_setting,
)
from mdm_kit.recipe.names import check_name
from mdm_kit.recipe.nearest import did_you_mean, nearest
from mdm_kit.recipe.plain import plain_setting
from mdm_kit.recipe.push import MAX_MESSAGE, Push
from mdm_kit.recipe.quoting import quoted
from mdm_kit.recipe.reading import Parsed, load_recipe_file, read_recipe_text
from mdm_kit.recipe.references import LocatedRef, check_path, check_revision, parse_reference
from mdm_kit.recipe.report import render
from mdm_kit.recipe.rewriting import rewrite_references
from mdm_kit.recipe.scalars import Scalar, WrongValue
from mdm_kit.recipe.settings import CompiledSetting, Rule, compile_setting, origin, resolve
from mdm_kit.recipe.slices import joined
from mdm_kit.recipe.tokenizer import ModelToken, RowSource, Tokenizer, TokenRule, Zero

__all__ = [
    "AUTO",
    "MAX_MESSAGE",
    "TEMPLATE_NAMES",
    "Addition",
    "CompiledSetting",
    "Expert",
    "Filtered",
    "Filters",
    "Gradient",
    "LocatedRef",
    "Mixture",
    "ModelEntry",
    "ModelToken",
    "Module",
    "Parameter",
    "Parsed",
    "Push",
    "Recipe",
    "RowSource",
    "Rule",
    "Scalar",
    "Setting",
    "Slice",
    "TokenRule",
    "Tokenizer",
    "WrongValue",
    "Zero",
    "check_name",
    "check_path",
    "check_revision",
    "compile_setting",
    "did_you_mean",
    "edited_text",
    "find_setting",
    "joined",
    "load_recipe_file",
    "nearest",
    "origin",
    "parse_reference",
    "plain_setting",
    "quoted",
    "read_recipe_text",
    "render",
    "resolve",
    "rewrite_references",
]
