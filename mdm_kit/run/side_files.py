"""Writes everything of a bundle that is not a shard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from mdm_kit.bundle.card import CardFacts, write_card
from mdm_kit.bundle.hub_task import library_of, task_of
from mdm_kit.bundle.recipe_text import published_text
from mdm_kit.bundle.shard_file import ShardDigests
from mdm_kit.bundle.stage import Stage
from mdm_kit.ledger.canonical import sha256_of
from mdm_kit.ledger.entries import FileEntry
from mdm_kit.ledger.manifest import MANIFEST_NAME, Manifest
from mdm_kit.ledger.products import LEDGER_NAME
from mdm_kit.methods.registry import methods
from mdm_kit.planner.config_truth import (
    embedding_rows,
    head_and_embeddings,
    one_dtype,
    true_config,
)
from mdm_kit.planner.layout import INDEX_NAME, index_json
from mdm_kit.planner.originals import originals_of
from mdm_kit.planner.parents import LOCAL_NAME
from mdm_kit.planner.plan import Plan
from mdm_kit.planner.same_model import parts_of
from mdm_kit.run.effective_weights import effective_weights
from mdm_kit.run.kept_files import KeptFiles
from mdm_kit.run.manifest_of import (
    Result,
    findings_of,
    manifest_of,
    products_of,
)
from mdm_kit.run.progress import Progress
from mdm_kit.run.source_entries import Noted
from mdm_kit.run.staged_entries import references_in
from mdm_kit.sources import LEGAL, Source
from mdm_kit.sources.adapted import adapted
from mdm_kit.vocabulary import written_files
from mdm_kit.vocabulary.loading import check_written

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
    noted: Noted,
    progress: Progress,
) -> Manifest:
    """Write config, tokenizer files, recipe, index, manifest, card and the local map, in order.

    Returns the manifest, whose event has the time that was `noted`.

    Raises `IntegrityError` where a side file of a model cannot be trusted, or the tokenizer that
    was written does not do what it is for.
    """
    references, paths = _references(plan)
    recipe_text = _recipe_text(plan, references)
    recipe_name = "mergekit_config.yml" if _dialect(plan) else "mdm_recipe.yml"
    files, before = _copied(plan, result.digests)
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
    if plan.tokenizer is not None and plan.tokenizer.new:
        check_written(plan.tokenizer, stage.model, before)
    for finding in findings_of(plan, result):
        progress.say(finding)
    if hash_sources:
        progress.say("hashing the sources")
    manifest = manifest_of(
        plan,
        result,
        kept.entries | {n: FileEntry(len(data), sha256_of(data)) for n, data in files.items()},
        kept.by_model,
        kept.sums,
        ledger,
        recipe_text,
        references,
        device=device,
        verify=hash_sources,
        noted=noted,
    )
    stage.put(CARD_NAME, _card(plan, manifest, recipe_name))
    stage.put(MANIFEST_NAME, manifest.to_bytes())
    if paths:
        stage.put(LOCAL_NAME, (json.dumps(paths, indent=2) + "\n").encode())
    return manifest


def recipe_as_written(plan: Plan) -> str:
    """Return the recipe as the merge's manifest will hold it, every model pinned."""
    return _recipe_text(plan, _references(plan)[0])


def _recipe_text(plan: Plan, references: Mapping[str, str]) -> str:
    public = references_in(plan, references)
    if plan.edit is not None:
        public |= {reference: reference for reference in plan.edit.inherited}
    return published_text(plan.recipe, public)


def _dialect(plan: Plan) -> bool:
    used = (plan.method, *(s.plan.method for s in plan.stages))
    return plan.recipe.dialect and all(methods()[name].dialect for name in used)


def _references(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """Return how each source is called in public, and where the local ones lie."""
    references, paths = {}, dict(plan.edit.homes) if plan.edit else {}
    for source in originals_of(plan):
        if source.role not in ("base", "model"):
            continue
        on = adapted(source.source)
        parts = [source.source] if on is None else [on.model, on.adapter]
        inherited = plan.edit is not None and source.ref in plan.edit.inherited
        if inherited:
            public = parts_of(source.ref)
        else:
            public = [_public(part, source.name) for part in parts]
        references[source.name] = "+".join(public)
        for part, called in zip(parts, public, strict=False):
            origin = part.origin()
            if origin.kind == "folder" and origin.path and called.startswith("local:"):
                paths[called.rpartition("@")[2]] = origin.path
    return references, paths


def _public(source: Source, name: str) -> str:
    origin = source.origin()
    if origin.repo is not None:
        return f"{origin.repo}@{origin.commit}"
    folder = (origin.path or name).rstrip("/").rsplit("/", 1)[-1]
    return f"local:{_UNFIT.sub('_', folder) or 'model'}@{source.fingerprint()}"


def _copied(
    plan: Plan, digests: dict[str, ShardDigests]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the models' files as the result has them, and those of the tokenizer's donor as is."""
    donor = plan.source(plan.donor)
    inherited = plan.recipe.license is None and plan.terms.license is not None
    files = _side_files(donor.source, LEGAL if inherited else ())
    theirs = files
    if plan.tokenizer is not None:
        if plan.tokenizer.donor != plan.donor:
            theirs = _side_files(plan.source(plan.tokenizer.donor).source)
        files = written_files(plan.tokenizer, files, theirs)
    if "config.json" in files:
        files["config.json"] = true_config(
            files["config.json"],
            dtype=one_dtype(plan.shards),
            tied=_tied(plan, digests),
            rows=embedding_rows(plan.shards),
            edits={e.path: e.value for e in plan.config_edits},
        )
    return files, theirs


def _side_files(source: Source, more: Iterable[str] = ()) -> dict[str, bytes]:
    names = (*source.side_files(), *more)
    return {n: data for n in names if (data := source.side_file(n)) is not None}


def _tied(plan: Plan, digests: dict[str, ShardDigests]) -> bool | None:
    names = head_and_embeddings(plan.shards)
    if names is None:
        return None
    by_name = {
        p.write.name: digest
        for s in plan.shards
        for p, digest in zip(s.tensors, digests[s.name].tensors, strict=True)
    }
    head, embeddings = names
    return by_name[head] in {by_name[e] for e in embeddings}


def _card(plan: Plan, manifest: Manifest, recipe_name: str) -> bytes:
    donor, terms = plan.source(plan.donor), plan.terms
    side_files = donor.source.side_files()
    return write_card(
        CardFacts(
            title=plan.recipe.name or "Merged model",
            manifest=manifest,
            method_title=methods()[plan.method].title,
            dtype=one_dtype(plan.shards) or "several dtypes",
            recipe_name=recipe_name,
            dialect=_dialect(plan),
            library=library_of(side_files),
            task=task_of(donor.config or {}, side_files, terms.pipeline_tag),
            license=terms.license,
            license_decided=plan.recipe.license is not None,
            stated=terms.stated,
            weights=effective_weights(plan, manifest),
            stepped_back=_stepped_back(plan),
        )
    )


def _stepped_back(plan: Plan) -> bool:
    """Whether a merge is the sum that an earlier one had before its last model."""
    edit = plan.edit
    if edit is None or not edit.removed or edit.mode != "rebuild":
        return False
    return any(s.role == "sums" for s in plan.sources)
