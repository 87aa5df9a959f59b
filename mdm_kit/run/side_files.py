"""Writes everything of a bundle that is not a shard."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from mdm_kit.bundle.card import CardFacts, CardSource, write_card
from mdm_kit.bundle.config_truth import true_config
from mdm_kit.bundle.recipe_text import published_text
from mdm_kit.bundle.shard_file import ShardDigests
from mdm_kit.bundle.stage import Stage
from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.manifest import (
    MANIFEST_NAME,
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
from mdm_kit.methods.registry import methods
from mdm_kit.planner.layout import INDEX_NAME, index_json
from mdm_kit.planner.nodes import Same
from mdm_kit.planner.patterns import is_embedding, is_head
from mdm_kit.planner.plan import Plan, PlannedSource
from mdm_kit.recipe import plain_setting
from mdm_kit.run.progress import Progress
from mdm_kit.run.weights import Group, Weights
from mdm_kit.versions import libraries, tool
from mdm_kit.words import DTYPES, shown

LOCAL_NAME = ".mdm_local.json"
LEDGER_NAME = "mdm_ledger.safetensors"
CARD_NAME = "README.md"
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
"""What a folder's name may hold and a reference had better not."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the work on the tensors gave: digests, inner products, solved groups, weights."""

    digests: dict[str, ShardDigests]
    grams: dict[str, Gram]
    groups: dict[str, Group]
    weights: dict[str, Weights]


def write_side_files(
    plan: Plan,
    stage: Stage,
    result: Result,
    device: str,
    hash_sources: bool,
    progress: Progress,
) -> None:
    """Write config, tokenizer files, recipe, index, card, manifest and the local map, in order.

    Raises `IntegrityError` where a side file of the donor cannot be trusted.
    """
    references, paths = _references(plan)
    recipe_text = published_text(plan.recipe, {s.ref: references[s.name] for s in plan.sources})
    recipe_name = "mergekit_config.yml" if _dialect(plan) else "mdm_recipe.yml"
    digests = result.digests
    files = _copied(plan, digests)
    files[recipe_name] = recipe_text.encode()
    if len(plan.shards) > 1:
        files[INDEX_NAME] = index_json(plan.shards)
    if result.grams:
        files[LEDGER_NAME] = _ledger_file(result)
    for name, data in files.items():
        stage.put(name, data)
    findings = _findings(plan, result)
    for finding in findings:
        progress.say(finding)
    stage.put(CARD_NAME, _card(plan, references, recipe_name, recipe_text))
    if hash_sources:
        progress.say("hashing the sources")
    manifest = Manifest(
        schema=MANIFEST_SCHEMA,
        tool=tool(),
        recipe=recipe_text,
        recipe_sha256=_sha256(recipe_text.encode()),
        plan=plan.digest,
        seed=plan.recipe.seed,
        method=plan.method,
        parameters={p.name: plain_setting(p.setting) for p in plan.recipe.parameters},
        precision=_precision(plan),
        libraries=libraries(),
        device=device.partition(":")[0],
        sources=[_source(s, plan, references[s.name], hash_sources) for s in plan.sources],
        tensors=_tensors(plan, result),
        groups=_groups(plan, result),
        ledger=_ledger(plan, result, files),
        findings=findings,
        shards={
            s.name: FileEntry(nbytes=s.nbytes, sha256=digests[s.name].sha256) for s in plan.shards
        },
        files={n: FileEntry(nbytes=len(d), sha256=_sha256(d)) for n, d in sorted(files.items())},
        history=[
            Event(
                operation="merge",
                time=datetime.now(UTC).isoformat(timespec="seconds"),
                plan=plan.digest,
            )
        ],
    )
    stage.put(MANIFEST_NAME, manifest.to_bytes())
    if paths:
        stage.put(LOCAL_NAME, (json.dumps(paths, indent=2) + "\n").encode())


def _dialect(plan: Plan) -> bool:
    return plan.recipe.dialect and methods()[plan.method].dialect


def _references(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """Return how each source is called in public, and where the local ones lie."""
    references, paths = {}, {}
    for source in plan.sources:
        if source.repo is not None:
            references[source.name] = f"{source.repo}@{source.commit}"
            continue
        digest = source.source.fingerprint()
        path = source.source.origin().path
        base_name = path.rstrip("/").rsplit("/", 1)[-1] if path else source.name
        references[source.name] = f"local:{_UNFIT.sub('_', base_name) or 'model'}@{digest}"
        if path:
            paths[digest] = path
    return references, paths


def _copied(plan: Plan, digests: dict[str, ShardDigests]) -> dict[str, bytes]:
    donor = plan.source(plan.donor)
    files = {}
    for name in donor.source.side_files():
        data = donor.source.side_file(name)
        if data is not None:
            files[name] = data
    if "config.json" in files:
        files["config.json"] = true_config(
            files["config.json"], dtype=_one_dtype(plan), tied=_tied(plan, digests)
        )
    return files


def _one_dtype(plan: Plan) -> str | None:
    dtypes = {p.write.dtype for s in plan.shards for p in s.tensors if DTYPES[p.write.dtype].merges}
    return DTYPES[dtypes.pop()].torch_name if len(dtypes) == 1 else None


def _tied(plan: Plan, digests: dict[str, ShardDigests]) -> bool | None:
    by_name = {
        p.write.name: digest
        for s in plan.shards
        for p, digest in zip(s.tensors, digests[s.name].tensors, strict=True)
    }
    heads = [d for n, d in by_name.items() if is_head(n)]
    embeddings = [d for n, d in by_name.items() if is_embedding(n)]
    if len(heads) != 1 or not embeddings:
        return None
    return heads[0] in embeddings


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
        )
        for name, group in result.groups.items()
    }


def _findings(plan: Plan, result: Result) -> list[str]:
    models = _model_names(plan)
    counts = Counter(i for g in result.groups.values() for i in g.basis.dependent)
    return [
        f"{shown(models[i])} adds nothing of its own in {n:,} of {len(result.groups):,} groups: "
        "its change is zero or lies in the span of other models' changes"
        for i, n in sorted(counts.items())
    ]


def _ledger_file(result: Result) -> bytes:
    from safetensors.numpy import save

    rows = [result.grams[name].triangle for name in sorted(result.grams)]
    return save({"gram": np.array(rows, np.float64)})


def _ledger(plan: Plan, result: Result, files: dict[str, bytes]) -> LedgerEntry | None:
    if not result.grams:
        return None
    return LedgerEntry(
        file=LEDGER_NAME,
        sha256=_sha256(files[LEDGER_NAME]),
        models=_model_names(plan),
        tensors=sorted(result.grams),
    )


def _card(plan: Plan, references: dict[str, str], recipe_name: str, recipe_text: str) -> bytes:
    recipe = plan.recipe
    parameters = {
        m.name: ", ".join(f"{p.name}: {json.dumps(plain_setting(p.setting))}" for p in m.parameters)
        for m in recipe.models
    }
    return write_card(
        CardFacts(
            title=recipe.name or "Merged model",
            method=plan.method,
            method_title=methods()[plan.method].title,
            sources=[
                CardSource(s.name, references[s.name], s.role, s.repo, parameters.get(s.name, ""))
                for s in plan.sources
            ],
            dtype=_one_dtype(plan) or "several dtypes",
            recipe_name=recipe_name,
            recipe_text=recipe_text,
            license=recipe.license,
            dialect=_dialect(plan),
            tool=tool(),
        )
    )


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
