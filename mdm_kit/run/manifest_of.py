"""What was done, as a manifest and a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mdm_kit.bundle.shard_file import ShardDigests
from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.canonical import digest, sha256_of
from mdm_kit.ledger.entries import (
    Certificate,
    Event,
    FileEntry,
    GroupEntry,
    LedgerEntry,
    Mode,
    Precision,
    SourceEntry,
    SourceFile,
    TensorEntry,
)
from mdm_kit.ledger.manifest import MANIFEST_SCHEMA, Manifest, plain
from mdm_kit.ledger.products import Products
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.methods.registry import methods
from mdm_kit.planner.compat import any_compat
from mdm_kit.planner.nodes import Same
from mdm_kit.planner.plan import Plan, PlannedSource
from mdm_kit.planner.solving import Group, is_blurred
from mdm_kit.recipe import plain_setting
from mdm_kit.run.weights import Weights
from mdm_kit.versions import libraries, tool
from mdm_kit.words import shown


@dataclass(frozen=True, slots=True)
class Result:
    """What the work on the tensors gave: digests, inner products, solved groups, weights.

    `exact` are inner products from compensated sums.
    """

    digests: dict[str, ShardDigests]
    grams: dict[str, Gram]
    exact: dict[str, Gram]
    groups: dict[str, Group]
    weights: dict[str, Weights]


def manifest_of(
    plan: Plan,
    result: Result,
    files: Mapping[str, FileEntry],
    kept: Mapping[str, str],
    ledger: LedgerEntry | None,
    recipe_text: str,
    references: Mapping[str, str],
    *,
    device: str,
    verify: bool,
) -> Manifest:
    """Return the manifest of a merge whose shards and `files` are written.

    `kept` names the file that keeps a model, where one does; `references` gives each source's
    public name; `verify` asks for the sha256 of every source file. Raises `IntegrityError` where a
    file from the Hub is not the one the Hub declares.
    """
    shards = {
        s.name: FileEntry(nbytes=s.nbytes, sha256=result.digests[s.name].sha256)
        for s in plan.shards
    }
    edit = plan.edit
    patched = edit is not None and edit.mode != "rebuild"
    draft = Manifest(
        schema=MANIFEST_SCHEMA,
        tool=tool(),
        recipe=recipe_text,
        recipe_sha256=sha256_of(recipe_text.encode()),
        plan=plan.digest,
        seed=plan.recipe.seed,
        method=plan.method,
        parameters={p.name: plain_setting(p.setting) for p in plan.recipe.parameters},
        precision=_precision(plan),
        libraries=libraries(),
        device=device.partition(":")[0],
        sources=[replace(s, kept=kept.get(s.name)) for s in _sources(plan, references, verify)],
        tensors=_tensors(plan, result),
        groups=edit.parent.groups if edit and patched else _groups(plan, result),
        ledger=ledger,
        findings=findings_of(plan, result),
        undo=_undo(plan, patched=patched, weighed=ledger is not None),
        shards=shards,
        files={name: files[name] for name in sorted(files)},
        history=[],
    )
    history = [*(edit.parent.history if edit else []), _event(plan, draft)]
    return replace(draft, history=history)


def _undo(plan: Plan, *, patched: bool, weighed: bool) -> list[Mode]:
    method = methods()[plan.method]
    if patched or (method.solve is not None and not weighed):
        return ["rebuild"]
    if any_compat(_precision(plan).compute):
        return [mode for mode in method.undo if mode == "rebuild"]
    return list(method.undo)


def _event(plan: Plan, draft: Manifest) -> Event:
    edit = plan.edit
    now = datetime.now(UTC).isoformat(timespec="seconds")
    sections = draft.sections()
    if edit is None:
        return Event("merge", now, plan.digest, sections)
    parent = digest(plain(edit.parent.history[-1]))
    if not edit.removed:
        return Event("add", now, plan.digest, sections, parent, list(edit.added))
    certificate = Certificate(
        parent=edit.parent.digest,
        removed=list(edit.removed),
        mode=edit.mode,
        leak=edit.leak,
        residue=dict(edit.residue),
        weights=digest({name: s.sha256 for name, s in draft.shards.items()}),
        check="mdm-kit verify --deep .",
    )
    return Event("unmerge", now, plan.digest, sections, parent, [], certificate)


def products_of(plan: Plan, result: Result) -> Products:
    """Return the inner products a merge leaves: those it measured and those it took over."""
    if plan.edit is not None and plan.edit.mode != "rebuild":
        return plan.edit.products
    if not result.grams:
        return Products()
    wide = [w.name for w in plan.writes if (a := w.apply()) and a.compute == "float64"]
    # A group that lost a model may need its compensated sums no more; a fresh merge has none.
    needed = {
        name: result.exact[name]
        for group in result.groups.values()
        if is_blurred([result.grams[t] for t in group.tensors])
        for name in group.tensors
    }
    return Products(
        tuple(_model_names(plan)),
        result.grams,
        needed,
        frozenset(wide) & frozenset(result.grams),
    )


def _precision(plan: Plan) -> Precision:
    applies = [p.write.apply() for s in plan.shards for p in s.tensors]
    recipe = plan.recipe
    return Precision(
        compute=sorted({a.compute for a in applies if a}),
        dtype=recipe.dtype.torch_name if recipe.dtype else None,
        out_dtype=recipe.out_dtype.torch_name if recipe.out_dtype else None,
    )


def _sources(plan: Plan, references: Mapping[str, str], verify: bool) -> list[SourceEntry]:
    if plan.edit is not None and plan.edit.sources:
        return list(plan.edit.sources)
    return [_source(s, plan, references[s.name], verify) for s in plan.sources]


def _source(source: PlannedSource, plan: Plan, reference: str, verify: bool) -> SourceEntry:
    parameters = {
        p.name: plain_setting(p.setting)
        for m in plan.recipe.models
        if m.name == source.name
        for p in m.parameters
    }
    earlier = plan.edit.inherited.get(source.ref) if plan.edit else None
    if earlier is not None and source.source.origin().kind != "hub" and not verify:
        # The same model at another place, or out of the bundle: what it was made of still holds.
        return replace(
            earlier, name=source.name, role=source.role, parameters=parameters, kept=None
        )
    return SourceEntry(
        name=source.name,
        role=source.role,
        reference=reference,
        repo=source.repo if earlier is None else earlier.repo,
        commit=source.commit if earlier is None else earlier.commit,
        files=[
            SourceFile(
                name=f.name,
                nbytes=f.nbytes,
                header_sha256="sha256:" + f.header_sha256,
                sha256=_file_digest(source, f.name, f.sha256, verify),
                status="verified" if verify or f.sha256 else None,
            )
            for f in source.checkpoint.files
        ],
        parameters=parameters,
    )


def _file_digest(
    source: PlannedSource, name: str, declared: str | None, verify: bool
) -> str | None:
    # What came from the Hub is always compared with the Hub's own digest: a byte that changed on
    # the way, or in the cache since, must not end in a sealed merge.
    if not verify and not declared:
        return None
    found = source.source.file_digest(name)
    if declared and found != declared:
        raise IntegrityError(
            f"{shown(source.name)}: {shown(name)} should have the sha256 {declared} the Hub "
            f"declares, found {found}; delete it from the Hugging Face cache and run again"
        )
    return "sha256:" + found


def _tensors(plan: Plan, result: Result) -> dict[str, TensorEntry]:
    weights = {name: list(w.values) for name, w in result.weights.items()}
    if plan.edit is not None:
        weights |= {name: list(w) for name, w in plan.edit.weights.items()}
    return {
        p.write.name: TensorEntry(
            shape=list(p.write.shape),
            dtype=p.write.dtype,
            blake3=blake3,
            rule="same" if isinstance(p.write.root, Same) else plan.method,
            shard=s.name,
            weights=weights.get(p.write.name),
        )
        for s in plan.shards
        for p, blake3 in zip(s.tensors, result.digests[s.name].tensors, strict=True)
    }


def _model_names(plan: Plan) -> list[str]:
    return [s.name for s in plan.sources if s.role == "model"]


def _groups(plan: Plan, result: Result) -> dict[str, GroupEntry]:
    models = _model_names(plan)
    return {
        name: GroupEntry(
            tensors=list(group.tensors),
            q=list(group.basis.q),
            dependent=[models[i] for i in group.basis.dependent],
            largest_cosine=group.largest_cosine,
            condition=group.condition,
        )
        for name, group in result.groups.items()
    }


def findings_of(plan: Plan, result: Result) -> list[str]:
    """Return what the work has shown about the models, in words."""
    models = _model_names(plan)
    counts = Counter(i for g in result.groups.values() for i in g.basis.dependent)
    return [
        f"{shown(models[i])} adds nothing of its own in {n:,} of {len(result.groups):,} groups: "
        "its change is zero or lies in the span of other models' changes"
        for i, n in sorted(counts.items())
    ]
