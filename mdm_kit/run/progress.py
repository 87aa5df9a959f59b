"""What a merge tells while it runs; the command line draws it, a program may ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Listens to a running merge. Called from the thread that called `merge`."""

    def start(self, total_nbytes: int, done_nbytes: int) -> None:
        """`total_nbytes` of output are to be written, `done_nbytes` are there from before."""

    def advance(self, nbytes: int) -> None:
        """`nbytes` more are written."""

    def say(self, text: str) -> None:
        """Something worth a line happened."""


class Silent:
    """Says nothing."""

    def start(self, total_nbytes: int, done_nbytes: int) -> None:
        """Ignore."""

    def advance(self, nbytes: int) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""
