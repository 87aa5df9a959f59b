"""What is known of tensors that are merged as sums: where they grow, how they came about, scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from mdm_kit.ledger.entries import SummedTensor, SumsEntry
from mdm_kit.ledger.sums import energies_of, joined, lambdas_of, mean_norm_scale, totals_of
from mdm_kit.methods.rules import Projecting, SumRule
from mdm_kit.planner.costs import DEFAULT_MEMORY_NBYTES
from mdm_kit.planner.nodes import Write
from mdm_kit.planner.sums import SUM, sum_rule, waits_for_norms
from mdm_kit.run.change_course import Floats
from mdm_kit.run.gate import Gate
from mdm_kit.run.journal import Journal
from mdm_kit.run.summed_course import SummedCourse
from mdm_kit.run.sums import Sums

Make = Callable[[Write, SumRule, Sums], SummedCourse]


class Summing:
    """The sums of one merge. Courses are handed out here, and say here what came of them.

    `facts` are by tensor, over all models of the merge; `noise` is about the squared norm of what
    a tensor's sum is wrong by where it was read back from weights. `scale` is that of every tensor
    whose scale is the whole model's, once their sums are known.
    """

    def __init__(
        self,
        sums: Sums | None = None,
        earlier: SumsEntry | None = None,
        memory_nbytes: int = DEFAULT_MEMORY_NBYTES,
    ) -> None:
        """Begin with the `earlier` merge's facts where one is gone on from."""
        self.sums = sums or Sums(None, (), keeps=False)
        self.gate = Gate(memory_nbytes)
        self.facts: dict[str, SummedTensor] = {}
        self.scale: float | None = None
        self.noise: dict[str, float] = {}
        self._earlier = earlier
        self._courses: dict[str, SummedCourse] = {}
        self._totals: dict[str, Floats] = {}

    def course(self, write: Write, rule: SumRule, make: Make) -> SummedCourse:
        """Return how a tensor is summed and written; only written, where its sum is known."""
        if isinstance(rule, Projecting) and waits_for_norms(write) and write.name in self.facts:
            factor = rule.factor * (self.scale or 0.0)
            if (
                (apply := write.apply()) is not None and apply.is_factored
            ):  # it is made once more, which costs less than to keep it
                course = make(write, rule, self.sums)
                course.factor = factor
                return course
            course = SummedCourse(write, [], factor)
            known = self._totals.get(write.name)
            course.total = self.sums.of(write)[SUM] if known is None else known  # type: ignore[assignment]
            return course
        course = make(write, rule, self.sums)
        if write.name not in self.facts:
            self._courses[write.name] = course
        return course

    def collect(self, names: Collection[str]) -> dict[str, SummedTensor]:
        """Return what came of the tensors called `names` since they were asked for last."""
        found = {}
        for name in names:
            course = self._courses.get(name)
            if course is None or course.facts is None:
                continue
            del self._courses[name]
            found[name] = self._whole(course, course.facts)
            self.noise[name] = course.noise_energy
            if course.total is not None and waits_for_norms(course.write):
                self._totals[name] = course.total
        self.facts |= found
        return found

    def note(self, facts: Mapping[str, SummedTensor], journal: Journal) -> None:
        """Bring the sums of these tensors to disk, and write down how they came about."""
        noise = {name: self.noise.get(name, 0.0) for name in facts}
        journal.summed(facts, self.sums.settle(list(facts)), noise)

    def take_over(self, writes: Sequence[Write], journal: Journal) -> None:
        """Take over what an interrupted merge has summed, where its files still hold it."""
        intact = self.sums.intact(journal.sums)
        for name in (w.name for w in writes):
            if name in journal.facts and (name in intact or not self.sums.holds(name)):
                self.facts[name] = journal.facts[name]
                self.noise[name] = journal.noise[name]

    def _whole(self, course: SummedCourse, now: SummedTensor) -> SummedTensor:
        start = course.apply.start
        if start is None:
            return now
        earlier = self._earlier.tensors.get(course.write.name) if self._earlier else None
        return joined(earlier, len(start.energies), start.energies, now)

    def waiting(self, writes: Sequence[Write]) -> list[Write]:
        """Return the tensors that must be summed before the first is written, and are not."""
        return [w for w in writes if waits_for_norms(w) and w.name not in self.facts]

    def entry(self, writes: Sequence[Write]) -> SumsEntry | None:
        """Return what the manifest says of the sums of a merge; None for one that has none."""
        tensors = {w.name: self.facts[w.name] for w in writes if sum_rule(w) is not None}
        if not tensors:
            return None
        starts = [a.start for w in writes if (a := w.apply()) is not None and a.start is not None]
        rounded = max((s.n for s in starts if s.scale is not None), default=0)
        known = math.fsum(s.total for s in starts)
        earlier = self._earlier
        inherited = (earlier.rounded, earlier.rounding) if earlier else (0, 0.0)
        noise = math.fsum(self.noise.values())
        rounding = math.sqrt(noise / known) if rounded and known > 0 else 0.0
        return SumsEntry(
            norms=[math.sqrt(e) for e in energies_of(tensors.values())],
            lambdas=lambdas_of(tensors),
            scale=self._scale_of(writes),
            tensors=tensors,
            rounded=rounded or inherited[0],
            rounding=math.hypot(rounding, inherited[1]),
        )

    def _scale_of(self, writes: Sequence[Write]) -> float | None:
        """Return what every sum was multiplied by before the method's own factors."""
        rules = [rule for w in writes if isinstance(rule := sum_rule(w), Projecting)]
        if any(rule.scale is None and rule.alone for rule in rules):
            return None
        return next((r.scale for r in rules if r.scale is not None), self.scale)

    def solve(self, writes: Sequence[Write]) -> None:
        """Find the scale of the whole model from the facts of all tensors that share it."""
        facts = [self.facts[w.name] for w in writes if waits_for_norms(w)]
        if facts:
            totals = totals_of(facts)
            self.scale = mean_norm_scale(energies_of(facts), totals[-1] if totals else 0.0)
