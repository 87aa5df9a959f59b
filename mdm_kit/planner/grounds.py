"""What a plan is built on: a document's models, looked at together, and what is wrong with them.

The models are opened, brought under the donor's names and the result's vocabulary, and parted into
the sections they make. Each of these steps gives models to the next, and findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mdm_kit.ledger.entries import SourceEntry
from mdm_kit.methods.contract import Method
from mdm_kit.planner.agreement import faults, misfits
from mdm_kit.planner.aligning import Aligned
from mdm_kit.planner.common_names import agreed, under_common_names
from mdm_kit.planner.compat import averaged, refusals
from mdm_kit.planner.joints import misplaced, same_twice
from mdm_kit.planner.licences import Terms, surveyed_terms, terms_of
from mdm_kit.planner.mixing import Mixed, mixture_of
from mdm_kit.planner.patterns import depths
from mdm_kit.planner.recipe_checks import method_of_recipe
from mdm_kit.planner.sections import Section, Sections, sections_of
from mdm_kit.planner.survey import Opening, Survey, survey
from mdm_kit.planner.vocabularies import align
from mdm_kit.planner.writes import Starting
from mdm_kit.recipe import Recipe
from mdm_kit.words import Finding, Level


@dataclass(frozen=True, slots=True)
class Grounds:
    """A document's models, ready to plan tensors of, and its method, None where it is unknown.

    `findings` hold whatever was found so far, and take what is found later.
    """

    method: Method | None
    survey: Survey
    terms: Terms
    vocabulary: Aligned
    parts: Sections
    mixed: Mixed
    findings: list[Finding]

    def are_sound(self) -> bool:
        """Return whether there is a method, no model is missing, and no finding is an error."""
        missing = self.method is None or self.survey.lacks
        return not missing and not any(f.level is Level.ERROR for f in self.findings)


def grounds_of(
    recipe: Recipe,
    opening: Opening,
    terms: Terms | None,
    earlier: Mapping[str, SourceEntry],
    *,
    compat: bool,
    starting: Starting | None,
) -> Grounds:
    """Look at a document's models; see `make_plan` for what is given.

    `terms` are those of its result, where they do not follow from the document.
    """
    method, found = method_of_recipe(recipe)
    if compat:
        found += refusals(recipe, method)
    # The models are looked at even where the recipe is wrong: one report, not one after another.
    surveyed = starting.survey if starting else survey(recipe, opening)
    found += surveyed.findings
    surveyed, notes = under_common_names(surveyed)
    found += notes
    if starting is not None:
        terms = terms_of(starting.parents, recipe)
    elif terms is None:
        terms = surveyed_terms(recipe, surveyed, earlier)
    found += [*terms.findings, *faults(surveyed)]
    vocabulary = align(recipe, surveyed, starting)
    surveyed = vocabulary.survey
    found += [*vocabulary.findings, *averaged(vocabulary.averaged if compat else (), recipe)]
    parts = _parts_of(recipe, method, surveyed, starting)
    parts.sections, notes = agreed(parts.sections, recipe.on_mismatch)
    mixed = _mixed(recipe, surveyed, found)
    found += [*parts.findings, *mixed.findings, *notes]
    found += _unfit(recipe, surveyed, parts, vocabulary)
    return Grounds(method, surveyed, terms, vocabulary, parts, mixed, found)


def _parts_of(
    recipe: Recipe, method: Method | None, surveyed: Survey, starting: Starting | None
) -> Sections:
    """Return the sections of a merge; none where a model is missing that they would need."""
    if not surveyed.sources or recipe.mixture is not None:
        return Sections()
    if starting is not None:
        places = depths(surveyed.donor.checkpoint.tensors)
        return Sections([Section(recipe, surveyed, places)])
    if method is not None and len(surveyed.models) == len(recipe.models):
        return sections_of(recipe, method, surveyed)
    whole = not recipe.is_sliced
    return Sections([Section(recipe, surveyed, {})] if whole else [])


def _mixed(recipe: Recipe, surveyed: Survey, found: list[Finding]) -> Mixed:
    """Return the tensors of a mixture, where the recipe asks for one and nothing stands against."""
    wrong = surveyed.lacks or any(f.level is Level.ERROR for f in found)
    if recipe.mixture is None or wrong:
        return Mixed()
    return mixture_of(recipe, recipe.mixture, surveyed)


def _unfit(recipe: Recipe, surveyed: Survey, parts: Sections, vocabulary: Aligned) -> list[Finding]:
    """Return what keeps models from being merged in their sections, or sections from one model."""
    found = [f for section in parts.sections for f in misfits(section.survey, vocabulary.hints)]
    if recipe.modules or recipe.mixture is not None:
        found += same_twice(surveyed)
    if recipe.is_sliced and surveyed.sources:
        found += misplaced([s.survey for s in parts.sections], surveyed.donor)
    return found
