"""From a node to its course: the one place where rules meet the code that carries them out."""

from __future__ import annotations

from mdm_kit.methods.rules import (
    Agreeing,
    Counting,
    Covarying,
    Drawn,
    DrawnByRank,
    Joining,
    Masking,
    Outdoing,
    Projecting,
    Spanning,
    SumRule,
)
from mdm_kit.planner.compat import is_compat
from mdm_kit.planner.nodes import Apply, Write
from mdm_kit.planner.ruling import rule_of
from mdm_kit.run.adding import AddingCourse
from mdm_kit.run.agreeing import AgreeingCourse
from mdm_kit.run.compat import CompatCourse
from mdm_kit.run.counting import CountingCourse
from mdm_kit.run.course import Course
from mdm_kit.run.covarying import CovaryingCourse
from mdm_kit.run.drawing import key_of
from mdm_kit.run.factored_fold import FactoredFold
from mdm_kit.run.factored_sum import FactoredSum
from mdm_kit.run.gridded import GridCourse
from mdm_kit.run.joining import JoiningCourse
from mdm_kit.run.masking import MaskingCourse
from mdm_kit.run.outdoing import OutdoingCourse
from mdm_kit.run.projecting import ProjectingCourse
from mdm_kit.run.spanning import SpanningCourse
from mdm_kit.run.summed_course import SummedCourse
from mdm_kit.run.summing import Summing
from mdm_kit.run.sums import Sums
from mdm_kit.run.swapping import SwappingCourse


def course_of(write: Write, seed: int, summing: Summing) -> Course | None:
    """Return how a tensor with a rule is read and written; None for a fold or a copy.

    Under compatibility with mergekit every tensor that is merged has a course.
    """
    rule, apply = rule_of(write), write.apply()
    if apply is not None and apply.is_factored and rule is None:
        return FactoredFold(write)
    if isinstance(rule, Projecting | Covarying):
        return summing.course(write, rule, _summed_course)
    if isinstance(rule, Joining):
        return JoiningCourse(write, rule)
    if apply is not None and is_compat(apply.compute):
        return CompatCourse(write, apply, _keys(apply, write.name, seed))
    if rule is None or apply is None:
        return None
    wide = apply.compute == "float64"
    k = len(apply.inputs)
    if isinstance(rule, Masking):
        draws = any(isinstance(keep, Drawn | DrawnByRank) for keep in rule.keeps)
        keys = _keys(apply, write.name, seed) if draws else [0] * k
        return MaskingCourse(write, rule, keys, wide=wide)
    if isinstance(rule, Spanning):
        return SpanningCourse(write, rule, k, wide=wide)
    if isinstance(rule, Counting):
        return CountingCourse(write, rule, k, wide=wide)
    if isinstance(rule, Outdoing):
        return OutdoingCourse(write, rule)
    if isinstance(rule, Agreeing):
        return AgreeingCourse(write, rule)
    return SwappingCourse(write, rule)


def _summed_course(write: Write, rule: SumRule, sums: Sums) -> SummedCourse:
    """Return how a tensor is summed over the models and written; `sums` give it room."""
    apply = write.apply()
    if apply is not None and apply.is_factored:
        return FactoredSum(write, rule)
    if isinstance(rule, Projecting):
        if rule.matrices:
            return ProjectingCourse(write, rule, sums.of(write))
        # Where the scale is known the sum need not outlive its tile.
        return AddingCourse(write, rule, sums.of(write, passing=rule.scale is not None))
    if rule.matrices:
        return CovaryingCourse(write, rule, sums.of(write))
    return GridCourse(write, rule, sums.of(write, passing=True))


def _keys(apply: Apply, tensor: str, seed: int) -> list[int]:
    return [key_of(seed, tensor, model) for model in apply.models]
