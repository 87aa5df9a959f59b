"""Routers of a mixture: a row for each expert, which tokens of its kind meet with large products.

A row comes of the hidden states that the expert's prompts have in the base where a layer begins,
less those of its negative prompts, scaled to length 1: the modes `hidden` and `hidden_last` take
the last token of each prompt, `hidden_avg` the mean of its tokens, `cheap_embed` the sum of its
embedded tokens, for all layers alike. Rows by chance are `random`, of the standard normal
distribution, or `uniform_random`, as torch initialises a linear layer. No row depends on another
expert.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdm_kit.mixture.chance import generator
from mdm_kit.sources import Source
from mdm_kit.sources.made import MadeSource

F32s = NDArray[np.float32]
BY_CHANCE = ("random", "uniform_random")
"""Modes that need no prompts."""
_SHORTEST = 1e-8


@dataclass(frozen=True, slots=True)
class Prompted:
    """An expert's name and its texts."""

    name: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]


class GateSource(MadeSource):
    """The routers of all layers, made together when the first is read.

    Of layer i and group g there is a tensor `g.i` of shape (experts of the group, hidden size).
    Reading raises what reading the base raises, and `MisfitError` where its config or tokenizer
    cannot be used.
    """

    def __init__(
        self,
        name: str,
        base: Source,
        groups: Mapping[str, Sequence[Prompted]],
        mode: str,
        sizes: tuple[int, int],
        seed: int,
    ) -> None:
        """Take the base, the experts of each group, and the numbers of layers and of features."""
        n_layers, self._hidden = sizes
        shapes = {
            f"{group}.{i}": (len(experts), self._hidden)
            for group, experts in groups.items()
            for i in range(n_layers)
        }
        said = {g: [[e.name, e.positive, e.negative] for e in es] for g, es in groups.items()}
        super().__init__(name, shapes, ["gates", mode, seed, said])
        self._base, self._groups, self._mode, self._seed = base, groups, mode, seed
        self._n_layers = n_layers
        self._making = threading.Lock()
        self._made: dict[str, F32s] | None = None

    def _make(self, tensor: str, start: int, view: memoryview) -> None:
        with self._making:
            if self._made is None:
                self._made = self._all()
        out = np.frombuffer(view, np.float32)
        out[:] = self._made[tensor].reshape(-1)[start : start + len(out)]

    def _all(self) -> dict[str, F32s]:
        experts = [e for group in self._groups.values() for e in group]
        rows = self._by_chance(experts) if self._mode in BY_CHANCE else self._prompted(experts)
        found: dict[str, F32s] = {}
        at = 0
        for group, members in self._groups.items():
            part = rows[at : at + len(members)]  # (experts, layers, hidden)
            at += len(members)
            layers = range(self._n_layers)
            found |= {f"{group}.{i}": np.ascontiguousarray(part[:, i]) for i in layers}
        return found

    def _by_chance(self, experts: Sequence[Prompted]) -> F32s:
        size = (self._n_layers, self._hidden)
        rows = []
        for k, expert in enumerate(experts):
            earlier = sum(e.name == expert.name for e in experts[:k])
            draw = generator(self._seed, "gate", expert.name, earlier)
            if self._mode == "random":
                rows.append(draw.standard_normal(size, np.float32))
            else:
                bound = 1.0 / np.sqrt(self._hidden)
                rows.append(draw.uniform(-bound, bound, size).astype(np.float32))
        return np.stack(rows)

    def _prompted(self, experts: Sequence[Prompted]) -> F32s:
        from mdm_kit.mixture.prompts import embedded, read_prompts, states

        texts = list(dict.fromkeys(t for e in experts for t in (*e.positive, *e.negative)))
        tokens = read_prompts(self._base, texts)
        if self._mode == "cheap_embed":
            sums = dict(zip(texts, embedded(self._base, tokens, self._hidden), strict=True))
            rows = [_sided(e, lambda t: _unit(_total(sums, t)[None])) for e in experts]
            return np.stack([np.repeat(_unit(r), self._n_layers, axis=0) for r in rows])
        found = states(self._base, tokens, self._n_layers, mean=self._mode == "hidden_avg")
        by_text = dict(zip(texts, found, strict=True))  # each (layers, hidden)
        rows = [_sided(e, lambda t: _total(by_text, t, len(t))) for e in experts]
        return np.stack([_unit(r) for r in rows])


def _total(by_text: Mapping[str, F32s], texts: Sequence[str], over: int = 1) -> F32s:
    """Return the sum over texts, in their order, divided by `over`."""
    total = np.zeros_like(by_text[texts[0]], dtype=np.float64)
    for text in texts:
        total += by_text[text]
    return (total / over).astype(np.float32)


def _sided(expert: Prompted, of: Callable[[Sequence[str]], F32s]) -> F32s:
    """Return what `of` makes of the positive texts, less what it makes of the negative ones."""
    rows = of(expert.positive)
    return rows - of(expert.negative) if expert.negative else rows


def _unit(rows: F32s) -> F32s:
    norms = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    unit: F32s = (rows / np.maximum(norms, _SHORTEST)).astype(np.float32)
    return unit
