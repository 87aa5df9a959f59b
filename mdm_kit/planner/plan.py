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
from mdm_kit.planner.layer_config import ConfigEdit
from mdm_kit.planner.layout import Placed, Shard
from mdm_kit.planner.licences import Terms
from mdm_kit.planner.nodes import (
    Apply,
    Delta,
    Fold,
    Input,
    Product,
    Read,
    Same,
    Start,
    Write,
)
from mdm_kit.recipe import Recipe, render
from mdm_kit.secrets import redacted
from mdm_kit.sources import Checkpoint, Source
from mdm_kit.sources.adapted import adapted
from mdm_kit.sources.adapter_config import ADAPTER_CONFIG
from mdm_kit.vocabulary import Written
from mdm_kit.words import EXIT_CODES, Finding, Kind, Level

if TYPE_CHECKING:
    from mdm_kit.planner.edit import Edit
    from mdm_kit.planner.stage_source import StageSource

PLAN_SCHEMA = "mdm_kit/plan/1"
_GRAVEST_FIRST = (Kind.INTEGRITY, Kind.SOURCE, Kind.MISFIT, Kind.RECIPE)


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """A model the plan reads from.

    `role` is `base` where it only gives the base, `sums` where it is what an earlier merge has of
    its models, `leaving` of a model that is taken out of them, `made` of tensors no model has.
    `repo` and `commit` are None for a
    folder;
    `headers_sha256` covers the names, sizes and headers of all its files, `alignment` how its
    vocabulary was aligned, if it was. `unused` are its tensors that the result has nothing of.
    """

    name: str
    ref: str
    role: Literal["base", "model", "sums", "leaving", "made"]
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
    unused: tuple[str, ...] = ()
    alignment: str = ""


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage of a recipe: its plan, and its result as the model that later ones read.

    It `streams` where each of its tensors is made as it is read; else it is written to disk first.
    """

    name: str
    plan: Plan
    source: StageSource
    streams: bool


@dataclass(frozen=True)
class Plan:
    """What `merge` will do for one recipe. `digest` changes when any output byte could.

    `known` are inner products that need not be measured, `edit` the earlier merge they are from.
    `terms` say how the result is licensed and why it should stay private. `sections` are the
    recipes of its parts, each with the names of its tensors; `config_edits` what its layers change
    of the donor's config; `dropped` the donor's tensors that no tensor of the result is made of.
    `tokenizer` is what its tokenizer files are to be; None means those of `donor`.
    `stages` are the plans of earlier documents, in order; their results are among the sources, and
    `costs` count them.
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
    terms: Terms = field(default_factory=Terms)
    sections: tuple[tuple[Recipe, frozenset[str]], ...] = ()
    config_edits: tuple[ConfigEdit, ...] = ()
    dropped: tuple[str, ...] = ()
    tokenizer: Written | None = None
    stages: tuple[PlannedStage, ...] = ()

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
        return redacted(render(self.findings, self.recipe.text, self.filename))

    def check(self) -> None:
        """Raise `FindingsError` with every finding if one of them is an error."""
        if self.exit_code:
            raise FindingsError(self.report(), self.exit_code)

    def close(self) -> None:
        """Close the sources the plan opened; those it was given stay open."""
        for source in self.sources:
            if not source.lent:
                source.source.close()
        for stage in self.stages:
            stage.plan.close()
            stage.source.close()

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
        for part in (content, *content.get("stages", ())):
            del part["findings"], part["costs"]
        for part in (content, *content.get("stages", ())):
            for source in part["sources"]:
                del source["download_nbytes"]  # what is in a cache changes no byte
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the whole plan as a JSON document, findings, costs and digest included."""
        return {
            **self._content(),
            "license": None if self.terms.license is None else self.terms.license.id,
            "private_because": list(self.terms.private_because),
            "digest": self.digest,
        }

    def _content(self) -> dict[str, Any]:
        values: dict[int, dict[str, Any]] = {}  # parameters are shared between tensors
        return {
            "schema": PLAN_SCHEMA,
            "method": self.method,
            "seed": self.recipe.seed,
            "donor": self.donor,
            "sources": [_source_json(s) for s in self.sources],
            **_left_out(self),
            **_stages_json(self),
            "shards": [
                {
                    "name": s.name,
                    "nbytes": s.nbytes,
                    "tensors": [_placed_json(p, values) for p in s.tensors],
                }
                for s in self.shards
            ],
            "findings": [
                {"level": f.level, "kind": f.kind, "message": redacted(f.message), "hint": f.hint}
                for f in self.findings
            ],
            "costs": dataclasses.asdict(self.costs),
        }


def _left_out(plan: Plan) -> dict[str, Any]:
    """Return what there is to say of config and dropped tensors; nothing, of most plans."""
    edits = {"config": {".".join(e.path): e.value for e in plan.config_edits}}
    dropped = {"dropped": list(plan.dropped)}
    return (edits if plan.config_edits else {}) | (dropped if plan.dropped else {})


def _stages_json(plan: Plan) -> dict[str, Any]:
    if not plan.stages:
        return {}
    own = [(s, s.plan._content()) for s in plan.stages]  # noqa: SLF001 -- a plan's, as it is
    return {"stages": [{"name": s.name, "streams": s.streams, **content} for s, content in own]}


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
        **({"unused": list(source.unused)} if source.unused else {}),
        **({"alignment": source.alignment} if source.alignment else {}),
        **_adapter_json(source.source),
    }


def _adapter_json(source: Source) -> dict[str, Any]:
    on = adapted(source)
    if on is None:
        return {}
    origin, config = on.adapter.origin(), on.adapter.side_digest(ADAPTER_CONFIG)
    return {"adapter": {"repo": origin.repo, "commit": origin.commit, "config": config}}


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
        return out | {"same": [_read_json(r, w.name) for r in root.inputs]}
    if isinstance(root, Fold):
        out["base"] = _read_json(root.base, w.name)
    apply = root.delta if isinstance(root, Fold) else root
    return out | {"apply": _apply_json(apply, w.name, values)}


def _apply_json(apply: Apply, name: str, values: dict[int, dict[str, Any]]) -> dict[str, Any]:
    if id(apply.params) not in values:
        values[id(apply.params)] = params_json(apply.params)
    return {
        "method": apply.method,
        "compute": apply.compute,
        "group": apply.group,
        "params": values[id(apply.params)],
        **({} if apply.weights is None else {"weights": list(apply.weights)}),
        **({} if apply.matrices is None else {"matrices": _matrices_json(apply)}),
        **({} if apply.start is None else {"start": _start_json(apply.start)}),
        "inputs": [_input_json(i, name) for i in apply.inputs],
    }


def _input_json(one: Input, name: str) -> Any:
    if not isinstance(one, Product):
        return _read_json(one.source if isinstance(one, Delta) else one, name)
    factors = [_read_json(read, name) for read in one.factors or ()]
    return {"of": one.source, "turned": one.turned, "scale": one.scale, "factors": factors}


def _matrices_json(apply: Apply) -> dict[str, Any]:
    found = [[m.start, m.out, m.inner] for m in apply.matrices or ()]
    return {"counts": apply.counts, "maps": found}


def _start_json(start: Start) -> dict[str, Any]:
    return {
        "n": start.n,
        "scale": start.scale,
        "takes_out": start.takes_out,
        "reads": [r.info.name for r in start.reads],
    }


def params_json(params: MethodParams) -> dict[str, Any]:
    """Return a method's values by their names in a recipe."""
    values = {spec.name: getattr(params, spec.field) for spec in type(params).specs()}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _read_json(read: Read, name: str) -> str | list[str]:
    """Return the source a tensor is read from, and its name there if that is another."""
    info = read.info
    return info.source if info.name == name else [info.source, info.name]
