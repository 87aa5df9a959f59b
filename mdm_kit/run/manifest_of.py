"""What was done, as a manifest and a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mdm_kit.bundle.shard_file import ShardDigests
from mdm_kit.ledger.canonical import digest, sha256_of
from mdm_kit.ledger.entries import (
    PASSED,
    Certificate,
    Event,
    FileEntry,
    GroupEntry,
    LedgerEntry,
    Mode,
    PartsEntry,
    Precision,
    SumsEntry,
    TensorEntry,
)
from mdm_kit.ledger.manifest import MANIFEST_SCHEMA, Manifest, plain
from mdm_kit.ledger.products import Products
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.methods.registry import methods
from mdm_kit.planner.compat import any_compat
from mdm_kit.planner.nodes import Write
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.solving import Group, is_blurred
from mdm_kit.planner.sums import BEFORE, sums_of
from mdm_kit.recipe import plain_setting
from mdm_kit.run.source_entries import Noted, source_entries
from mdm_kit.run.staged_entries import computes_of, stage_entries
from mdm_kit.run.weights import Weights
from mdm_kit.versions import libraries, tool
from mdm_kit.words import shown


@dataclass(frozen=True, slots=True)
class Result:
    """What the work on the tensors gave: digests, inner products, solved groups, weights, sums.

    `exact` are inner products from compensated sums.
    """

    digests: dict[str, ShardDigests]
    grams: dict[str, Gram]
    exact: dict[str, Gram]
    groups: dict[str, Group]
    weights: dict[str, Weights]
    sums: SumsEntry | None = None


def manifest_of(
    plan: Plan,
    result: Result,
    files: Mapping[str, FileEntry],
    kept: Mapping[str, str],
    kept_sums: Sequence[str],
    ledger: LedgerEntry | None,
    recipe_text: str,
    references: Mapping[str, str],
    *,
    device: str,
    verify: bool,
    noted: Noted,
) -> Manifest:
    """Return the manifest of a merge whose shards and `files` are written.

    `kept` names the file that keeps a model, where one does, `kept_sums` those that keep sums;
    `references` gives each source's
    public name; `verify` asks for the sha256 of every source file. Raises `IntegrityError` where a
    file from the Hub is not the one the Hub declares.
    """
    shards = {
        s.name: FileEntry(nbytes=s.nbytes, sha256=result.digests[s.name].sha256)
        for s in plan.shards
    }
    edit = plan.edit
    patched = edit is not None and edit.is_patch
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
        sources=[
            replace(s, kept=kept.get(s.name))
            for s in source_entries(plan, references, verify, noted)
        ],
        tensors=_tensors(plan, result),
        groups=edit.parent.groups if edit and patched else _groups(plan, result),
        ledger=ledger,
        findings=findings_of(plan, result),
        undo=_undo(plan, patched=patched, weighed=ledger is not None, summed=bool(kept_sums)),
        shards=shards,
        files={name: files[name] for name in sorted(files)},
        history=[],
        sums=_sums(plan, result, kept_sums),
        parts=_parts(plan),
        stages=stage_entries(plan, references) or None,
    )
    history = [*(edit.parent.history if edit else []), _event(plan, draft, noted.time)]
    return replace(draft, history=history)


def _sums(plan: Plan, result: Result, kept: Sequence[str]) -> SumsEntry | None:
    if result.sums is None:
        return None
    arrays = (a.role for w in plan.writes for a in sums_of(w, keeps=bool(kept)))
    return replace(result.sums, files=sorted(kept), steps_back=BEFORE in arrays)


def _parts(plan: Plan) -> PartsEntry | None:
    without = {w.name: list(w.without) for w in plan.writes if w.without}
    unused = {s.name: list(s.unused) for s in plan.sources if s.unused}
    return PartsEntry(without, unused) if without or unused else None


def _shared(plan: Plan) -> frozenset[str]:
    """Return the tensors all models have a part in: only those have a place in the ledger."""
    return frozenset(w.name for w in plan.writes if not w.without)


def _shared_groups(plan: Plan, result: Result) -> dict[str, Group]:
    shared = _shared(plan)
    return {n: g for n, g in result.groups.items() if shared.issuperset(g.tensors)}


def _undo(plan: Plan, *, patched: bool, weighed: bool, summed: bool) -> list[Mode]:
    method = methods()[plan.method]
    if any(w.without or (w.passed and method.keeps_sums) for w in plan.writes):
        return [mode for mode in method.undo if mode == "rebuild"]
    if plan.stages or (method.keeps_sums and not summed):
        return ["rebuild"]
    if patched or (method.solve is not None and not weighed):
        return ["rebuild"]
    if any_compat(_precision(plan).compute) or plan.recipe.renumbers:
        return [mode for mode in method.undo if mode == "rebuild"]
    if any(s.alignment for s in plan.sources):
        # What is stored are aligned rows, and what they are depends on who is there.
        return [mode for mode in method.undo if mode == "rebuild"]
    return list(method.undo)


def _event(plan: Plan, draft: Manifest, time: str) -> Event:
    edit = plan.edit
    sections = draft.sections()
    if edit is None:
        return Event("merge", time, plan.digest, sections)
    parent = digest(plain(edit.parent.history[-1]))
    if not edit.removed:
        return Event("add", time, plan.digest, sections, parent, list(edit.added))
    exact_patch = edit.is_patch and edit.mode == "exact"
    certificate = Certificate(
        parent=edit.parent.digest,
        removed=list(edit.removed),
        mode=edit.mode,
        leak=edit.leak,
        residue=dict(edit.residue),
        weights=digest({name: s.sha256 for name, s in draft.shards.items()}),
        # No folding repeats a patch of the stored weights; its digests can be compared.
        check="mdm-kit verify ." if exact_patch else "mdm-kit verify --deep .",
    )
    return Event("unmerge", time, plan.digest, sections, parent, [], certificate)


def products_of(plan: Plan, result: Result) -> Products:
    """Return the inner products a merge leaves: those it measured and those it took over."""
    if plan.edit is not None and plan.edit.is_patch:
        return plan.edit.products
    shared = _shared(plan)
    grams = {name: gram for name, gram in result.grams.items() if name in shared}
    if not grams or plan.recipe.renumbers:  # its layers have no number of their own
        return Products()
    wide = [w.name for w in plan.writes if (a := w.apply()) and a.compute == "float64"]
    # A group that lost a model may need its compensated sums no more; a fresh merge has none.
    needed = {
        name: result.exact[name]
        for group in _shared_groups(plan, result).values()
        if is_blurred([grams[t] for t in group.tensors])
        for name in group.tensors
    }
    return Products(
        tuple(_model_names(plan)),
        grams,
        needed,
        frozenset(wide) & frozenset(grams),
        frozenset(w.name for w in plan.writes if (a := w.apply()) and a.is_factored)
        & frozenset(grams),
    )


def _precision(plan: Plan) -> Precision:
    recipe = plan.recipe
    return Precision(
        compute=computes_of(plan),
        dtype=recipe.dtype.torch_name if recipe.dtype else None,
        out_dtype=recipe.out_dtype.torch_name if recipe.out_dtype else None,
    )


def _tensors(plan: Plan, result: Result) -> dict[str, TensorEntry]:
    shared = _shared(plan)
    weights = {name: list(w.values) for name, w in result.weights.items() if name in shared}
    if plan.edit is not None:
        weights |= {name: list(w) for name, w in plan.edit.weights.items()}
    return {
        p.write.name: TensorEntry(
            shape=list(p.write.shape),
            dtype=p.write.dtype,
            blake3=blake3,
            rule=_rule(p.write),
            shard=s.name,
            weights=weights.get(p.write.name),
        )
        for s in plan.shards
        for p, blake3 in zip(s.tensors, result.digests[s.name].tensors, strict=True)
    }


def _rule(write: Write) -> str:
    if write.passed:
        return PASSED
    return apply.method if (apply := write.apply()) else "same"


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
        for name, group in _shared_groups(plan, result).items()
    }


def findings_of(plan: Plan, result: Result) -> list[str]:
    """Return what the work has shown about the models, in words."""
    models = _model_names(plan)
    groups = _shared_groups(plan, result)
    counts = Counter(i for g in groups.values() for i in g.basis.dependent)
    return [
        f"{shown(models[i])} adds nothing of its own in {n:,} of {len(groups):,} groups: "
        "its change is zero or lies in the span of other models' changes"
        for i, n in sorted(counts.items())
    ]
