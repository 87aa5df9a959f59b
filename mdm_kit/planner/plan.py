"""The plan: everything a merge will do, as a value that can be printed, hashed and resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from mdm_kit.errors import FindingsError
from mdm_kit.ledger.products import Products
from mdm_kit.methods.contract import MethodParams
from mdm_kit.planner.costs import Budget, Costs
from mdm_kit.planner.layout import Placed, Shard
from mdm_kit.planner.nodes import Apply, Delta, Fold, Read, Same, Write
from mdm_kit.recipe import Recipe, render
from mdm_kit.sources import Checkpoint, Source
from mdm_kit.words import EXIT_CODES, Finding, Kind, Level

if TYPE_CHECKING:
    from mdm_kit.planner.edits import Edit

PLAN_SCHEMA = "mdm_kit/plan/1"
_GRAVEST_FIRST = (Kind.INTEGRITY, Kind.SOURCE, Kind.MISFIT, Kind.RECIPE)


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """A model the plan reads from.

    `role` is `base` where it only gives the base; `repo` and `commit` are None for a folder;
    `headers_sha256` covers the names, sizes and headers of all its files.
    """

    name: str
    ref: str
    role: Literal["base", "model"]
    repo: str | None
    commit: str | None
    headers_sha256: str
    n_tensors: int
    nbytes: int
    download_nbytes: int
    source: Source
    checkpoint: Checkpoint
    config: Mapping[str, object] | None
    lent: bool


@dataclass(frozen=True)
class Plan:
    """What `merge` will do for one recipe. `digest` changes when any output byte could.

    `known` are inner products that need not be measured, `edit` the earlier merge they are from.
    """

    recipe: Recipe
    method: str
    donor: str
    sources: tuple[PlannedSource, ...]
    shards: tuple[Shard, ...]
    findings: tuple[Finding, ...]
    costs: Costs
    budget: Budget
    filename: str = "recipe.yml"
    known: Products = field(default_factory=Products)
    edit: Edit | None = None

    @property
    def exit_code(self) -> int:
        """0 for a plan without errors, else the code of the gravest kind of error.

        Integrity is graver than a model that cannot be had, that than models that do not fit, and
        that than the recipe itself.
        """
        kinds = {f.kind for f in self.findings if f.level is Level.ERROR}
        return next((EXIT_CODES[k] for k in _GRAVEST_FIRST if k in kinds), 0)

    def report(self) -> str:
        """Return every finding with its line of the recipe, for a terminal."""
        return render(self.findings, self.recipe.text, self.filename)

    def check(self) -> None:
        """Raise `FindingsError` with every finding if one of them is an error."""
        if self.exit_code:
            raise FindingsError(self.report(), self.exit_code)

    def close(self) -> None:
        """Close the sources the plan opened; those it was given stay open."""
        for source in self.sources:
            if not source.lent:
                source.source.close()

    def __enter__(self) -> Self:
        """Return the plan; its sources are closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the sources."""
        self.close()

    @property
    def writes(self) -> list[Write]:
        """Return every output tensor in the order of the files' bytes: the plan's order."""
        return [p.write for s in self.shards for p in s.tensors]

    @property
    def n_tensors(self) -> int:
        """How many tensors the result has."""
        return sum(len(s.tensors) for s in self.shards)

    def source(self, name: str) -> PlannedSource:
        """Return the source of that name."""
        return next(s for s in self.sources if s.name == name)

    @cached_property
    def digest(self) -> str:
        """`sha256:…` over sources, nodes, parameters and layout; no path of this machine in it."""
        content = self._content()
        del content["findings"], content["costs"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the whole plan as a JSON document, findings, costs and digest included."""
        return {**self._content(), "digest": self.digest}

    def _content(self) -> dict[str, Any]:
        values: dict[int, dict[str, Any]] = {}  # parameters are shared between tensors
        return {
            "schema": PLAN_SCHEMA,
            "method": self.method,
            "seed": self.recipe.seed,
            "donor": self.donor,
            "sources": [_source_json(s) for s in self.sources],
            "shards": [
                {
                    "name": s.name,
                    "nbytes": s.nbytes,
                    "tensors": [_placed_json(p, values) for p in s.tensors],
                }
                for s in self.shards
            ],
            "findings": [
                {"level": f.level, "kind": f.kind, "message": f.message, "hint": f.hint}
                for f in self.findings
            ],
            "costs": dataclasses.asdict(self.costs),
        }


def _source_json(source: PlannedSource) -> dict[str, Any]:
    return {
        "name": source.name,
        "role": source.role,
        "repo": source.repo,
        "commit": source.commit,
        "headers_sha256": source.headers_sha256,
        "n_tensors": source.n_tensors,
        "nbytes": source.nbytes,
        "download_nbytes": source.download_nbytes,
    }


def _placed_json(placed: Placed, values: dict[int, dict[str, Any]]) -> dict[str, Any]:
    w = placed.write
    out = {
        "name": w.name,
        "shape": list(w.shape),
        "dtype": w.dtype,
        "span": list(placed.span),
    }
    root = w.root
    if isinstance(root, Same):
        return out | {"same": [_read_json(r) for r in root.inputs]}
    if isinstance(root, Fold):
        out["base"] = _read_json(root.base)
    apply = root.delta if isinstance(root, Fold) else root
    return out | {"apply": _apply_json(apply, values)}


def _apply_json(apply: Apply, values: dict[int, dict[str, Any]]) -> dict[str, Any]:
    if id(apply.params) not in values:
        values[id(apply.params)] = params_json(apply.params)
    return {
        "method": apply.method,
        "compute": apply.compute,
        "group": apply.group,
        "params": values[id(apply.params)],
        **({} if apply.weights is None else {"weights": list(apply.weights)}),
        "inputs": [_read_json(i.source if isinstance(i, Delta) else i) for i in apply.inputs],
    }


def params_json(params: MethodParams) -> dict[str, Any]:
    """Return a method's values by their names in a recipe."""
    values = {spec.name: getattr(params, spec.field) for spec in type(params).specs()}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _read_json(read: Read) -> str:
    return read.info.source
