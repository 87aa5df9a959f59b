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
    """A model of a draft: its reference and a comment on it, its name, its parameters as lines.

    Where `layers` says which of its layers are taken, it is a slice of its own; where there are
    `prompts`, lines as well, it is an expert of a mixture.
    """

    ref: str
    parameters: tuple[str, ...] = ()
    note: str = ""
    name: str = ""
    layers: tuple[int, int] | None = None
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe that can be filled in. `about` is its comment; its first line says what it is for.

    `parameters` and `more` (whatever stands behind `dtype`) are lines of YAML, comments included.
    Drafts in `before` are its stages: documents in front of it, each with a `name`.
    """

    about: str
    method: str
    models: tuple[Entry, ...]
    base: str = ""
    parameters: tuple[str, ...] = ()
    dtype: str = "bfloat16"
    dtype_note: str = ""
    more: tuple[str, ...] = ()
    before: tuple[Draft, ...] = ()
    name: str = ""

    @property
    def documents(self) -> tuple[Draft, ...]:
        """The stages and the draft itself, in the order they are written."""
        return (*self.before, self)

    @property
    def places(self) -> tuple[Entry, ...]:
        """The models that can be given, of all documents: those that are no stage's result."""
        names = {stage.name for stage in self.before}
        return tuple(e for d in self.documents for e in d.models if e.ref not in names)

    @property
    def takes_base(self) -> bool:
        """Whether a document has a base that can be given."""
        names = {stage.name for stage in self.before}
        return any(d.base and d.base not in names for d in self.documents)

    @property
    def title(self) -> str:
        """What the recipe is for, in one line."""
        return self.about.splitlines()[0]

    def filled(
        self, *, base: str | None = None, models: Sequence[str] = (), dtype: str | None = None
    ) -> Draft:
        """Return the draft with these references and this dtype in place of its own.

        Models beyond those of the draft get the parameters of its last one. Of stages, the models
        of the first one come first; all of theirs must then be given, too.
        """
        left, stages = list(models), []
        for stage in self.before:
            stages.append(stage.filled(base=base, models=left[: len(stage.models)], dtype=dtype))
            del left[: len(stage.models)]
        names = {stage.name for stage in self.before}
        results = tuple(e for e in self.models if e.ref in names)
        own = [e for e in self.models if e.ref not in names]
        like = [*own, *[replace(own[-1], note="")] * len(left)]
        given = [replace(entry, ref=ref, name="") for entry, ref in zip(like, left, strict=False)]
        takes = self.base and self.base not in names
        return replace(
            self,
            base=base if base is not None and takes else self.base,
            models=(*results, *given) if given else self.models,
            dtype=self.dtype if dtype is None else dtype,
            before=tuple(stages),
        )

    def text(self) -> str:
        """Return the recipe."""
        about = "".join(f"# {line}\n" for line in self.about.splitlines())
        documents = ("\n".join(_lines(d)) + "\n" for d in self.documents)
        return about + "---\n".join(documents)


def _lines(draft: Draft) -> Iterator[str]:
    if draft.name:
        yield f"name: {draft.name}"
    yield f"merge_method: {draft.method}"
    if draft.base:
        yield f"base_model: {_reference(draft.base)}"
    first = draft.models[0]
    yield "slices:" if first.layers else "experts:" if first.prompts else "models:"
    for entry in draft.models:
        yield from _entry(entry)
    yield from _block("", draft.parameters)
    yield f"dtype: {draft.dtype}{_comment(draft.dtype_note)}"
    yield from draft.more


def _entry(entry: Entry) -> Iterator[str]:
    indent, key = "  ", "source_model" if entry.prompts else "model"
    if entry.layers is not None:
        yield "  - sources:"
        indent = "      "
    yield f"{indent}- {key}: {_reference(entry.ref)}{_comment(entry.note)}"
    if entry.name:
        yield f"{indent}  name: {entry.name}"
    if entry.layers is not None:
        yield f"{indent}  layer_range: [{entry.layers[0]}, {entry.layers[1]}]"
    yield from (f"{indent}  {line}" for line in entry.prompts)
    yield from _block(f"{indent}  ", entry.parameters)


def _block(indent: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{indent}parameters:"
        for line in lines:
            yield f"{indent}  {line}"


def _comment(note: str) -> str:
    return f" # {note}" if note else ""


def _reference(ref: str) -> str:
    return ref if _SAFE.fullmatch(ref) and not Scalar(ref).looks_untextual else quoted(ref)
