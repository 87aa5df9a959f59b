"""Writes everything of a bundle that is not a shard."""

from __future__ import annotations

import json
import re

from mdm_kit.bundle.card import CardFacts, CardSource, write_card
from mdm_kit.bundle.config_truth import true_config
from mdm_kit.bundle.recipe_text import published_text
from mdm_kit.bundle.shard_file import ShardDigests
from mdm_kit.bundle.stage import Stage
from mdm_kit.ledger.canonical import sha256_of
from mdm_kit.ledger.entries import FileEntry
from mdm_kit.ledger.manifest import MANIFEST_NAME, Manifest
from mdm_kit.ledger.products import LEDGER_NAME
from mdm_kit.methods.registry import methods
from mdm_kit.planner.layout import INDEX_NAME, index_json
from mdm_kit.planner.parents import LOCAL_NAME
from mdm_kit.planner.patterns import is_embedding, is_head
from mdm_kit.planner.plan import Plan
from mdm_kit.recipe import plain_setting
from mdm_kit.run.kept_files import KeptFiles
from mdm_kit.run.manifest_of import Result, findings_of, manifest_of, products_of
from mdm_kit.run.progress import Progress
from mdm_kit.versions import tool
from mdm_kit.words import DTYPES

CARD_NAME = "README.md"
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
"""What a folder's name may hold and a reference had better not."""


def write_side_files(
    plan: Plan,
    stage: Stage,
    result: Result,
    kept: KeptFiles,
    device: str,
    hash_sources: bool,
    progress: Progress,
) -> Manifest:
    """Write config, tokenizer files, recipe, index, card, manifest and the local map, in order.

    Returns the manifest.

    Raises `IntegrityError` where a side file of the donor cannot be trusted.
    """
    references, paths = _references(plan)
    public = {s.ref: references[s.name] for s in plan.sources}
    if plan.edit is not None:
        public |= {reference: reference for reference in plan.edit.inherited}
    recipe_text = published_text(plan.recipe, public)
    recipe_name = "mergekit_config.yml" if _dialect(plan) else "mdm_recipe.yml"
    files = _copied(plan, result.digests)
    files[recipe_name] = recipe_text.encode()
    if len(plan.shards) > 1:
        files[INDEX_NAME] = index_json(plan.shards)
    products = products_of(plan, result)
    ledger = None
    if products.plain and plan.recipe.ledger != "none":
        files[LEDGER_NAME] = products.to_bytes()
        ledger = products.entry(files[LEDGER_NAME])
    for name, data in files.items():
        stage.put(name, data)
    for finding in findings_of(plan, result):
        progress.say(finding)
    stage.put(CARD_NAME, _card(plan, references, recipe_name, recipe_text))
    if hash_sources:
        progress.say("hashing the sources")
    manifest = manifest_of(
        plan,
        result,
        kept.entries | {n: FileEntry(len(data), sha256_of(data)) for n, data in files.items()},
        kept.by_model,
        ledger,
        recipe_text,
        references,
        device=device,
        verify=hash_sources,
    )
    stage.put(MANIFEST_NAME, manifest.to_bytes())
    if paths:
        stage.put(LOCAL_NAME, (json.dumps(paths, indent=2) + "\n").encode())
    return manifest


def _dialect(plan: Plan) -> bool:
    return plan.recipe.dialect and methods()[plan.method].dialect


def _references(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """Return how each source is called in public, and where the local ones lie."""
    references, paths = {}, dict(plan.edit.homes) if plan.edit else {}
    for source in plan.sources:
        origin = source.source.origin()
        inherited = plan.edit is not None and source.ref in plan.edit.inherited
        if inherited or source.repo is not None:
            public = source.ref if inherited else f"{source.repo}@{source.commit}"
            digest = public.rpartition("@")[2]
        else:
            digest = source.source.fingerprint()
            folder = (origin.path or source.name).rstrip("/").rsplit("/", 1)[-1]
            public = f"local:{_UNFIT.sub('_', folder) or 'model'}@{digest}"
        references[source.name] = public
        if origin.kind == "folder" and origin.path and public.startswith("local:"):
            paths[digest] = origin.path
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
