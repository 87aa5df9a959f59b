"""Terminal output: tables on stdout, talk and progress on stderr, plain lines when piped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mdm_kit.secrets import redacted
from mdm_kit.words import human_bytes, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

PIPED_WIDTH = 200
"""Columns of a table that no terminal bounds."""
PLAIN_EVERY_S = 5.0
"""Seconds between two lines of progress when nobody watches a terminal."""


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints strings as they are, without markup or highlighting."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = PIPED_WIDTH
    return made


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print a table on stdout; columns in `right` are numbers and stand to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        drawn.add_column(Text(column), justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(shown(cell, 300)) for cell in row))
    console().print(drawn)


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Print labelled lines on stdout, the labels in one column."""
    width = max(len(label) for label, _ in pairs)
    for label, value in pairs:
        console().print(f"{label:<{width}}  {value}", soft_wrap=True)


class ByteProgress:
    """Progress in bytes with rate and time left: a bar on a terminal, else a line now and then."""

    def __init__(self, what: str) -> None:
        """Name what is being done, as in `merging`."""
        self._what = what
        self._console = console(stderr=True)
        self._bar: Bar | None = None
        self._total = self._done = self._before = 0
        self._started = self._spoken = time.monotonic()

    def __enter__(self) -> Self:
        """Return the progress."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()

    def start(self, total_nbytes: int, done_nbytes: int) -> None:
        """Begin with `done_nbytes` of `total_nbytes`."""
        self._total, self._done, self._before = total_nbytes, done_nbytes, done_nbytes
        self._started = self._spoken = time.monotonic()
        if self._bar is not None:  # one stage is over, the next begins
            self._bar.stop()
        if self._console.is_terminal:
            self._bar = _bar(self._console)
            self._bar.add_task(self._what, total=total_nbytes, completed=done_nbytes)
            self._bar.start()

    def advance(self, nbytes: int) -> None:
        """Count `nbytes` more."""
        self._done += nbytes
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], nbytes)
        elif time.monotonic() - self._spoken >= PLAIN_EVERY_S:
            self._spoken = time.monotonic()
            self._console.print(self._line(), soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line, without secrets."""
        self._console.print(redacted(text), soft_wrap=True)

    def _line(self) -> str:
        rate = (self._done - self._before) / max(time.monotonic() - self._started, 1e-9)
        left = (self._total - self._done) / rate if rate else 0.0
        return (
            f"{self._what}: {human_bytes(self._done)} of {human_bytes(self._total)}, "
            f"{human_bytes(rate)}/s, {left:.0f} s left"
        )


def _bar(on: Console) -> Bar:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=on,
        transient=True,
    )
