"""A recipe before it is text: what a starter or an example says, and how it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mdm_kit.recipe import Scalar, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SAFE = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9_./~@+-]*")
"""References that mean the same to every reader of YAML without quotes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of a draft: its reference and a comment on it, its name, its parameters as lines."""

    ref: str
    parameters: tuple[str, ...] = ()
    note: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe that can be filled in. `about` is its comment; its first line says what it is for.

    `parameters` and `more` (whatever stands behind `dtype`) are lines of YAML, comments included.
    """

    about: str
    method: str
    models: tuple[Entry, ...]
    base: str = ""
    parameters: tuple[str, ...] = ()
    dtype: str = "bfloat16"
    dtype_note: str = ""
    more: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What the recipe is for, in one line."""
        return self.about.splitlines()[0]

    def filled(
        self, *, base: str | None = None, models: Sequence[str] = (), dtype: str | None = None
    ) -> Draft:
        """Return the draft with these references and this dtype in place of its own.

        Models beyond those of the draft get the parameters of its last one.
        """
        like = [*self.models, *[replace(self.models[-1], note="")] * len(models)]
        given = [replace(entry, ref=ref, name="") for entry, ref in zip(like, models, strict=False)]
        return replace(
            self,
            base=self.base if base is None else base,
            models=tuple(given) or self.models,
            dtype=self.dtype if dtype is None else dtype,
        )

    def text(self) -> str:
        """Return the recipe."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        for line in self.about.splitlines():
            yield f"# {line}"
        yield f"merge_method: {self.method}"
        if self.base:
            yield f"base_model: {_reference(self.base)}"
        yield "models:"
        for entry in self.models:
            yield f"  - model: {_reference(entry.ref)}{_comment(entry.note)}"
            if entry.name:
                yield f"    name: {entry.name}"
            yield from _block("    ", entry.parameters)
        yield from _block("", self.parameters)
        yield f"dtype: {self.dtype}{_comment(self.dtype_note)}"
        yield from self.more


def _block(indent: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{indent}parameters:"
        for line in lines:
            yield f"{indent}  {line}"


def _comment(note: str) -> str:
    return f" # {note}" if note else ""


def _reference(ref: str) -> str:
    return ref if _SAFE.fullmatch(ref) and not Scalar(ref).looks_untextual else quoted(ref)
