"""The ledger's numbers: inner products of the models' deltas, tensor by tensor.

A product belongs to two models, a base and a tensor, and its bits depend on nothing else. So those
of fewer models are a part of those of more, and a merge that loses a model measures nothing anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.canonical import sha256_of
from mdm_kit.ledger.entries import LedgerEntry
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.words import shown

LEDGER_NAME = "mdm_ledger.safetensors"
MAX_LEDGER_NBYTES = 1 << 30
"""A ledger of 100,000 tensors and 40 models has 0.7 GB."""


@dataclass(frozen=True, slots=True)
class Products:
    """Gram matrices by tensor, of `models` in this order.

    `exact` holds compensated sums of tensors whose group is, or was, nearly dependent; `plain`
    holds the plain sums of every tensor, which decide whether a group is. Deltas of the tensors in
    `wide` were formed in float64, all others in float32; those in `factored` were not formed, and
    measured on their factors.
    """

    models: tuple[str, ...] = ()
    plain: Mapping[str, Gram] = field(default_factory=dict)
    exact: Mapping[str, Gram] = field(default_factory=dict)
    wide: frozenset[str] = frozenset()
    factored: frozenset[str] = frozenset()

    def of(self, models: Sequence[str]) -> Products:
        """Return the products of some of the models, in the order given.

        Raises `KeyError` for a model that is not among them.
        """
        at = {name: i for i, name in enumerate(self.models)}
        chosen = [at[name] for name in models]
        pairs = [(i, j) for a, i in enumerate(chosen) for j in chosen[: a + 1]]

        def part(gram: Gram) -> Gram:
            return Gram(tuple(gram.at(i, j) for i, j in pairs))

        return Products(
            tuple(models),
            {name: part(g) for name, g in self.plain.items()},
            {name: part(g) for name, g in self.exact.items()},
            self.wide,
            self.factored,
        )

    def only(self, tensors: Collection[str]) -> Products:
        """Return the products of these tensors, as far as they are known."""
        plain = {name: g for name, g in self.plain.items() if name in tensors}
        exact = {name: g for name, g in self.exact.items() if name in tensors}
        return Products(self.models, plain, exact, self.wide, self.factored)

    def leading(self, models: Sequence[str]) -> Products:
        """Return the products of the first of `models`, as many as are known."""
        n = next((i for i, name in enumerate(models) if name not in self.models), len(models))
        return self.of(models[:n])

    def to_bytes(self) -> bytes:
        """Return the ledger file, float64, a row per tensor in name order.

        `gram` holds the compensated sums where there are any, else the plain ones; `plain` the
        plain ones that stand back behind them.
        """
        import numpy as np
        from safetensors.numpy import save

        def rows(grams: Mapping[str, Gram]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
            n_pairs = len(self.models) * (len(self.models) + 1) // 2
            listed = [grams[name].triangle for name in sorted(grams)]
            return np.array(listed, np.float64).reshape(len(listed), n_pairs)

        tensors = {"gram": rows({**self.plain, **self.exact})}
        if self.exact:
            tensors["plain"] = rows({name: self.plain[name] for name in self.exact})
        return save(tensors)

    def entry(self, raw: bytes) -> LedgerEntry:
        """Return what the manifest says of the ledger file with the bytes `raw`."""
        return LedgerEntry(
            file=LEDGER_NAME,
            sha256=sha256_of(raw),
            models=list(self.models),
            tensors=sorted(self.plain),
            exact=sorted(self.exact),
            wide=sorted(self.wide),
            factored=sorted(self.factored) or None,
        )

    @classmethod
    def from_bytes(cls, raw: bytes, entry: LedgerEntry) -> Products:
        """Read the ledger file that a manifest describes by `entry`.

        Raises `IntegrityError` where it is another file or does not hold what the entry says.
        """
        found = sha256_of(raw)
        if found != entry.sha256:
            raise IntegrityError(
                f"{shown(entry.file)}: expected {entry.sha256}, found {found}; "
                "its bytes were changed"
            )
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(raw)
        except (SafetensorError, ValueError) as error:
            raise IntegrityError(f"{shown(entry.file)} is no ledger: {shown(str(error))}") from None
        n_pairs = len(entry.models) * (len(entry.models) + 1) // 2
        read: dict[str, dict[str, Gram]] = {}
        for key, names in (("gram", entry.tensors), ("plain", entry.exact)):
            rows = tensors.get(key)
            shape = None if rows is None else (rows.dtype.str, rows.shape)
            if shape != ("<f8", (len(names), n_pairs)) and (names or key == "gram"):
                raise IntegrityError(
                    f"{shown(entry.file)}: expected {key!r} as float64 of {len(names)} by "
                    f"{n_pairs}, found {shape}"
                )
            listed = [] if rows is None else rows.tolist()
            read[key] = {n: Gram(tuple(row)) for n, row in zip(names, listed, strict=True)}
        exact = {n: read["gram"][n] for n in entry.exact if n in read["gram"]}
        plain = {**read["gram"], **read["plain"]}
        factored = frozenset(entry.factored or ())
        return cls(tuple(entry.models), plain, exact, frozenset(entry.wide), factored)
