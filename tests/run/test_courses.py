"""Courses end in words where a number is none, and in one error for everybody."""

from __future__ import annotations

from typing import Any

import pytest
from merging import merged
from rule_cases import BIG, TILE, family, given

from mdm_kit.errors import MisfitError, NotFiniteError
from mdm_kit.methods.registry import methods
from mdm_kit.run.course import Course, Stage


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "name",
    [
        "ties",
        "dare_ties",
        "della",
        "breadcrumbs",
        "sce",
        "ram",
        "slerp",
        "arcee_fusion",
        "nearswap",
        "magmax",
        "consensus",
    ],
)
@pytest.mark.parametrize("tile", [None, TILE])
def test_what_is_no_number_stops_the_merge_even_where_it_would_be_dropped(
    bad: float, name: str, tile: int | None
) -> None:
    method = methods()[name]
    k = min(2, method.max_models or 2)
    base, models = family(BIG, k)
    models[-1][211, 100] = bad
    values: dict[str, Any] = {s.name: 0.5 for s in method.params.specs() if s.required}
    values |= {"density": 0.1} if any(s.name == "density" for s in method.params.specs()) else {}
    values |= {"epsilon": 0.05} if name == "della" else {}
    with pytest.raises(NotFiniteError, match=r"w: .*(m\d|nan|inf)"):
        merged(method, given(name, k, **values), models, base, tile=tile)


def test_an_error_while_settling_is_everybody_s() -> None:
    """Not replaced by what a second try finds."""
    course = course_with_a_failing_stage()
    for _ in range(3):
        with pytest.raises(MisfitError, match="it failed"):
            course.settle(1, lambda *_: None)  # type: ignore[arg-type, return-value]


def course_with_a_failing_stage() -> Course:
    class Failing(Stage):
        tries = 0

        def read(self, inputs: Any, start: int) -> None: ...

        def settle(self, borrow: Any) -> None:
            assert not self.tries
            self.tries += 1
            raise MisfitError("it failed")

    class Only(Course):
        def fill(self, *args: Any, **how: Any) -> bool:
            return True

    stage = Failing(1)
    stage.countdown.done(1)
    return Only(None, [stage])  # type: ignore[arg-type]
