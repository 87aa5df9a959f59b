"""What method and recipe of a finished merge say of its sums, and whether its files hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.manifest import MANIFEST_NAME, Manifest
from mdm_kit.ledger.sums_laws import Summation
from mdm_kit.methods.rules import Projecting
from mdm_kit.planner.edit import method_of
from mdm_kit.planner.parameters import Missing, Parameters
from mdm_kit.planner.patterns import depths
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.remembered import recipe_of
from mdm_kit.planner.sums import (
    BEFORE,
    CHANGES,
    COVARIANCES,
    KEPT_SUMS,
    PRODUCTS,
    SUM,
    sum_rule,
    sums_of,
)
from mdm_kit.planner.writes import taking_part
from mdm_kit.words import Level, TensorInfo, shown

Wanted = Mapping[str, tuple[str, tuple[int, ...] | None]]
"""Dtype and shape of arrays by name, None for a shape that nobody knows."""
_STEADY = 1e-7
"""Singular values below this share of the largest are rounding."""


def summation_of(manifest: Manifest) -> Summation | None:
    """Return what a merge's sums must be like; None for a method without sums.

    Raises `IntegrityError` where the recipe has parameters that the method does not take.
    """
    method = method_of(manifest)
    if not method.keeps_sums or method.matrix_rule is None:
        return None
    recipe = recipe_of(manifest)
    parameters = Parameters(method, recipe, taking_part(recipe, method))
    wrong = [f.message for f in parameters.findings if f.level is Level.ERROR]
    keeps = recipe.ledger == KEPT_SUMS
    # What is asked for here is the same for every tensor.
    name = next((n for n, t in manifest.tensors.items() if t.rule == method.name), "")
    try:
        params = parameters.at(name, depths([name])[name]) if not wrong else None
    except Missing as gap:
        wrong = [f"the parameter {gap.spec.name!r} has no value"]
    if wrong or params is None:
        raise IntegrityError(f"the recipe in {MANIFEST_NAME} cannot be merged by: {wrong[0]}")
    rule = method.matrix_rule(params, ())
    if not isinstance(rule, Projecting):
        return Summation(projects=False, undo=method.undo, keeps=keeps)
    return Summation(
        projects=True,
        undo=method.undo,
        keeps=keeps,
        scale=rule.scale,
        alone=rule.scale is None and rule.alone,
        orthogonal=rule.variant != "legacy",
        steady=rule.tail_tol is None or rule.tail_tol >= _STEADY,
    )


def kept_faults(manifest: Manifest, kept: Mapping[str, TensorInfo]) -> list[str]:
    """Return where the files that keep a merge's sums do not hold them.

    `kept` are the arrays in these files. Which tensors hold linear maps only a plan knows.
    """
    sums = manifest.sums
    if sums is None or not sums.files:
        return []
    wanted: dict[str, tuple[str, tuple[int, ...] | None]] = {}
    for name in sums.tensors:
        shape = tuple(manifest.tensors[name].shape)
        if sums.lambdas:
            roles = (SUM, BEFORE) if sums.steps_back else (SUM,)
            wanted |= {f"{role}:{name}": ("F32", shape) for role in roles}
            continue
        wanted[f"{CHANGES}:{name}"] = ("I64", shape)
        if f"{PRODUCTS}:{name}" in kept or f"{COVARIANCES}:{name}" in kept:
            wanted[f"{PRODUCTS}:{name}"] = ("I64", shape)
            wanted[f"{COVARIANCES}:{name}"] = ("I64", None)
    return [
        *_array_faults(wanted, kept),
        *(f"sums: {shown(name)} is an array of no sum" for name in kept if name not in wanted),
    ]


def stored_faults(manifest: Manifest, stored: Mapping[str, TensorInfo]) -> list[str]:
    """Return where the weights of a merge are not those its sums can be read back from."""
    sums = manifest.sums
    names = [] if sums is None else list(sums.tensors)
    entries = {name: manifest.tensors[name] for name in names}
    return _array_faults({n: (e.dtype, tuple(e.shape)) for n, e in entries.items()}, stored)


def _array_faults(wanted: Wanted, found: Mapping[str, TensorInfo]) -> list[str]:
    faults = []
    for entry, (dtype, shape) in wanted.items():
        info = found.get(entry)
        if info is None:
            faults.append(f"sums: {shown(entry)} is in none of the files that should hold it")
        elif info.dtype != dtype or (info.shape if shape is None else shape) != info.shape:
            faults.append(
                f"sums: {shown(entry)}: expected {dtype} {list(shape or info.shape)}, found "
                f"{info.dtype} {list(info.shape)}"
            )
    return faults


def check_start(plan: Plan, manifest: Manifest, kept: Mapping[str, TensorInfo]) -> None:
    """Raise `IntegrityError` where a plan goes on from sums of other maps than its tensors have.

    `kept` are the arrays that are gone on from, empty where these are the merge's weights.
    """
    sums = manifest.sums
    for write in plan.writes:
        rule, apply = sum_rule(write), write.apply()
        if rule is None or apply is None or sums is None:
            continue
        fact = sums.tensors[write.name]
        faults = []
        if isinstance(rule, Projecting) and len(fact.ranks) != len(rule.matrices):
            faults.append(
                f"sums: {shown(write.name)}: expected ranks of {len(rule.matrices)} linear maps, "
                f"found {len(fact.ranks)}"
            )
        if fact.counts != apply.counts:
            faults.append(
                f"sums: {shown(write.name)}: expected {apply.counts} for whether it counts, found "
                f"{fact.counts}"
            )
        if kept and not isinstance(rule, Projecting):
            arrays = {a.entry: (a.dtype, a.shape) for a in sums_of(write, keeps=False)}
            faults += _array_faults(arrays, kept)
        if faults:
            raise not_the_merge(faults)


def not_the_merge(faults: Sequence[str]) -> IntegrityError:
    """Return the error of a merge that cannot be edited: what it says of itself is not so."""
    return IntegrityError(f"{MANIFEST_NAME}: {'; '.join(faults)}; get the original merge again")
