"""What each model's raw change is multiplied by in a merge, from its recipe and ledger alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property

from mdm_kit.ledger.products import Products
from mdm_kit.methods.contract import Method, MethodParams
from mdm_kit.planner.parameters import Parameters
from mdm_kit.planner.patterns import depths, group_of
from mdm_kit.planner.solving import Group, solve_group
from mdm_kit.planner.writes import taking_part
from mdm_kit.recipe import Recipe

RawWeights = Mapping[str, tuple[float, ...]]
"""By tensor: one number for each model, in the order of the recipe."""


class Weighing:
    """A merge's weights, tensor by tensor, without reading one of its tensors."""

    def __init__(
        self, recipe: Recipe, method: Method, products: Products, tensors: Mapping[str, bool]
    ) -> None:
        """Take a recipe and the inner products of its models.

        `tensors` are all tensors of the merge by name, and whether each is merged.
        """
        self._method = method
        self._products = products
        entries = taking_part(recipe, method)
        parameters = Parameters(method, recipe, entries)
        place = depths(tensors)
        self.models = tuple(m.name for m in entries)
        self._params: dict[str, MethodParams] = {
            name: parameters.at(name, place[name]) for name, merged in tensors.items() if merged
        }

    @cached_property
    def groups(self) -> dict[str, Group]:
        """The solved groups of a method that measures; none of another."""
        if self._method.solve is None:
            return {}
        members: dict[str, dict[str, MethodParams]] = {}
        for name, params in self._params.items():
            group = group_of(name, getattr(params, "scope", "tensor"))
            members.setdefault(group, {})[name] = params
        known = self._products
        return {
            name: solve_group(name, self._method, params, known.plain, known.exact)
            for name, params in members.items()
        }

    def weights(self, silent: Collection[str] = ()) -> dict[str, tuple[float, ...]]:
        """Return the weights of the merged tensors, those of the models `silent` as if α were 0.

        Components stay as they are: what a silent model shares with later ones keeps its place.
        """
        quiet = [name in silent for name in self.models]
        params = {name: _silenced(p, quiet) for name, p in self._params.items()}
        coefficients = self._method.coefficients
        if coefficients is None:
            return {}
        if self._method.solve is None:
            return {name: tuple(coefficients(p)) for name, p in params.items()}
        return {
            name: tuple(coefficients(params[name], group.basis))
            for group in self.groups.values()
            for name in group.tensors
        }


def _silenced(params: MethodParams, quiet: list[bool]) -> MethodParams:
    if not any(quiet):
        return params
    values = getattr(params, "weight")  # noqa: B009 -- every method that can be undone has it
    spread = values * len(quiet) if len(values) == 1 else values
    weight = tuple(0.0 if q else w for q, w in zip(quiet, spread, strict=True))
    return replace(params, weight=weight)  # type: ignore[type-var]
