"""The list every reader of a recipe writes its findings to, so that all of them come at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdm_kit.recipe.nearest import did_you_mean
from mdm_kit.recipe.quoting import seen
from mdm_kit.words import Finding, Kind, Level, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mdm_kit.recipe.scalars import Scalar, WrongValue

MAX_FINDINGS = 100
"""Nobody reads more; a hostile file could hold one finding for every few of its bytes."""


class Collector:
    """Findings in the order they were made, at most `MAX_FINDINGS` of them."""

    __slots__ = ("_findings", "_n_left_out")

    def __init__(self) -> None:
        """Start with nothing found."""
        self._findings: list[Finding] = []
        self._n_left_out = 0

    @property
    def full(self) -> bool:
        """Whether further findings would only be counted."""
        return len(self._findings) >= MAX_FINDINGS

    def add(self, level: Level, message: str, place: Place | None, hint: str = "") -> None:
        """Note one finding about the recipe."""
        if self.full:
            self._n_left_out += 1
        else:
            self._findings.append(Finding(level, Kind.RECIPE, message, hint, place))

    def error(self, message: str, place: Place | None, hint: str = "") -> None:
        """Note something that must be put right before the recipe can run."""
        self.add(Level.ERROR, message, place, hint)

    def warning(self, message: str, place: Place | None, hint: str = "") -> None:
        """Note something that runs, but hardly as it was meant."""
        self.add(Level.WARNING, message, place, hint)

    def wrong(self, what: str, problem: WrongValue, place: Place) -> None:
        """Note that the value called `what` is wrong in the way `problem` says."""
        self.error(f"{what}: {problem}", place, problem.hint)

    def unknown_key(self, key: Scalar, known: Iterable[str], where: str) -> None:
        """Note that `key` is not one of the `known` keys of `where`, with the nearest of them."""
        if self.full:  # comparing words is dear, and nobody would see the result
            self._n_left_out += 1
            return
        guess = did_you_mean(key.text, known)
        self.error(f"unknown key '{seen(key.text)}' {where}{guess}", key.place)

    def done(self) -> tuple[Finding, ...]:
        """Return what was found; where findings were left out, the last one says how many."""
        if not self._n_left_out:
            return tuple(self._findings)
        rest = f"{self._n_left_out} more problems are not shown"
        return (*self._findings, Finding(Level.NOTE, Kind.RECIPE, rest))
