"""What was done, as a manifest and a ledger."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from mdm_kit.bundle.shard_file import ShardDigests
from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.manifest import (
    MANIFEST_SCHEMA,
    Event,
    FileEntry,
    GroupEntry,
    LedgerEntry,
    Manifest,
    Precision,
    SourceEntry,
    SourceFile,
    TensorEntry,
)
from mdm_kit.maths.orthogonal import Gram
from mdm_kit.planner.nodes import Same
from mdm_kit.planner.plan import Plan, PlannedSource
from mdm_kit.recipe import plain_setting
from mdm_kit.run.weights import Group, Weights
from mdm_kit.versions import libraries, tool
from mdm_kit.words import shown

LEDGER_NAME = "mdm_ledger.safetensors"


@dataclass(frozen=True, slots=True)
class Result:
    """What the work on the tensors gave: digests, inner products, solved groups, weights."""

    digests: dict[str, ShardDigests]
    grams: dict[str, Gram]
    groups: dict[str, Group]
    weights: dict[str, Weights]


def manifest_of(
    plan: Plan,
    result: Result,
    files: Mapping[str, bytes],
    recipe_text: str,
    references: Mapping[str, str],
    *,
    device: str,
    verify: bool,
) -> Manifest:
    """Return the manifest of a merge whose shards and `files` are written.

    `references` gives each source's public name; `verify` asks for the sha256 of every source file.
    Raises `IntegrityError` where a file from the Hub is not the one the Hub declares.
    """
    shards = {
        s.name: FileEntry(nbytes=s.nbytes, sha256=result.digests[s.name].sha256)
        for s in plan.shards
    }
    event = Event(
        operation="merge", time=datetime.now(UTC).isoformat(timespec="seconds"), plan=plan.digest
    )
    return Manifest(
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
        sources=[_source(s, plan, references[s.name], verify) for s in plan.sources],
        tensors=_tensors(plan, result),
        groups=_groups(plan, result),
        ledger=_ledger(plan, result, files),
        findings=findings_of(plan, result),
        shards=shards,
        files={n: FileEntry(nbytes=len(d), sha256=sha256_of(d)) for n, d in sorted(files.items())},
        history=[event],
    )


def sha256_of(data: bytes) -> str:
    """Return `sha256:...` of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _precision(plan: Plan) -> Precision:
    applies = [p.write.apply() for s in plan.shards for p in s.tensors]
    recipe = plan.recipe
    return Precision(
        compute=sorted({a.compute for a in applies if a}),
        dtype=recipe.dtype.torch_name if recipe.dtype else None,
        out_dtype=recipe.out_dtype.torch_name if recipe.out_dtype else None,
    )


def _source(source: PlannedSource, plan: Plan, reference: str, verify: bool) -> SourceEntry:
    parameters = {
        p.name: plain_setting(p.setting)
        for m in plan.recipe.models
        if m.name == source.name
        for p in m.parameters
    }
    return SourceEntry(
        name=source.name,
        role=source.role,
        reference=reference,
        repo=source.repo,
        commit=source.commit,
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
    return {
        p.write.name: TensorEntry(
            shape=list(p.write.shape),
            dtype=p.write.dtype,
            blake3=digest,
            rule="same" if isinstance(p.write.root, Same) else plan.method,
            shard=s.name,
            weights=weights.get(p.write.name),
        )
        for s in plan.shards
        for p, digest in zip(s.tensors, result.digests[s.name].tensors, strict=True)
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


def ledger_file(result: Result) -> bytes:
    """Return the bytes of the ledger: `gram`, float64, one row per measured tensor, by name."""
    from safetensors.numpy import save

    rows = [result.grams[name].triangle for name in sorted(result.grams)]
    return save({"gram": np.array(rows, np.float64)})


def _ledger(plan: Plan, result: Result, files: Mapping[str, bytes]) -> LedgerEntry | None:
    if not result.grams:
        return None
    return LedgerEntry(
        file=LEDGER_NAME,
        sha256=sha256_of(files[LEDGER_NAME]),
        models=_model_names(plan),
        tensors=sorted(result.grams),
    )
