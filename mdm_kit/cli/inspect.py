"""`mdm-kit inspect`: what is inside a merged folder, a model, or a recipe's models."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdm_kit.cli import options

if TYPE_CHECKING:
    from mdm_kit.ledger.entries import SumsEntry
    from mdm_kit.ledger.manifest import Manifest
    from mdm_kit.sources import Checkpoint, Site


@click.command("inspect")
@click.argument("source")
@options.threads
@options.as_json
def command(source: str, threads: int | None, as_json: bool) -> int:
    """Show what is inside SOURCE: a finished merge, any model with safetensors files, or a recipe.

    SOURCE is a folder or a repository owner/name[@revision]. Reads headers and the manifest only;
    `mdm-kit verify` checks the rest. Of a recipe's file every model is read, once: what it changed
    of the base, how alike the changes are, and advice before merging.
    """
    from mdm_kit.bundle.verify import read_manifest
    from mdm_kit.ledger.manifest import MANIFEST_NAME
    from mdm_kit.sources import open_site

    if Path(source).is_file():
        from mdm_kit.cli.inspect_recipe import inspect_recipe_file

        return inspect_recipe_file(source, threads, as_json=as_json)
    site = open_site(source)
    with site.source(Path(site.name).name) as opened:
        checkpoint = opened.headers()
    manifest = read_manifest(site) if MANIFEST_NAME in site.names() else None
    if manifest is not None and manifest.sums is not None:
        _check_sums(manifest, manifest.sums)
    if as_json:
        click.echo(json.dumps(_document(checkpoint, manifest, site)))
    else:
        _show(checkpoint, manifest, site)
    return 0


def _document(checkpoint: Checkpoint, manifest: Manifest | None, site: Site) -> dict[str, Any]:
    return {
        "pinned": site.pinned,
        "files": {f.name: f.nbytes for f in checkpoint.files},
        "tensors": {
            t.name: {"shape": list(t.shape), "dtype": t.dtype, "file": t.file}
            for t in checkpoint.tensors.values()
        },
        "manifest": None if manifest is None else manifest.content(),
    }


def _show(checkpoint: Checkpoint, manifest: Manifest | None, site: Site) -> None:
    from mdm_kit.cli.screen import facts, table
    from mdm_kit.words import human_bytes, shown

    tensors = checkpoint.tensors.values()
    dtypes = Counter(t.dtype for t in tensors)
    pairs = [
        *([] if site.pinned is None else [("commit", site.pinned)]),
        (
            "tensors",
            f"{len(tensors):,} ({', '.join(f'{n:,} {d}' for d, n in dtypes.most_common())})",
        ),
        ("elements", f"{sum(t.n_elements for t in tensors):,}"),
        ("files", f"{len(checkpoint.files)}, {human_bytes(checkpoint.nbytes)}"),
    ]
    if manifest is None:
        facts([*pairs, ("merge", "no manifest: not written by mdm_kit")])
        return
    table(
        ("model", "role", "reference", "parameters"),
        [
            (s.name, s.role, s.reference, ", ".join(f"{k}: {v}" for k, v in s.parameters.items()))
            for s in manifest.sources
        ],
    )
    if manifest.sums is not None:
        show_parts(manifest, manifest.sums)
    if manifest.stages:
        table(
            ("stage", "method", "of"),
            [(s.name, s.method, ", ".join(m.name for m in s.models)) for s in manifest.stages],
        )
    parameters = ", ".join(f"{k}: {v}" for k, v in manifest.parameters.items())
    facts(
        [
            ("method", f"{manifest.method}{f' ({shown(parameters)})' if parameters else ''}"),
            *pairs,
            ("arithmetic", f"{', '.join(manifest.precision.compute)} on {manifest.device}"),
            ("made by", f"{manifest.tool}, {manifest.history[-1].time}"),
            ("plan", manifest.plan),
            *([] if manifest.sums is None else _of_sums(manifest, manifest.sums)),
        ]
    )


def _check_sums(manifest: Manifest, sums: SumsEntry) -> None:
    """Raise `IntegrityError` where numbers to be shown are of no model, or none at all."""
    from mdm_kit.errors import IntegrityError
    from mdm_kit.ledger.manifest import MANIFEST_NAME
    from mdm_kit.ledger.sums_form import form_faults

    faults = form_faults(manifest, sums, projects=bool(sums.lambdas), steady=False)
    if faults:
        raise IntegrityError(
            f"{MANIFEST_NAME}: {faults[0]}; get the original merge again, mdm-kit verify says more"
        )


def show_parts(manifest: Manifest, sums: SumsEntry) -> None:
    """Print what each model of a merge that is a sum adds to it, and how it leaves."""
    from mdm_kit.cli.screen import table
    from mdm_kit.ledger.sums import kept_shares
    from mdm_kit.ledger.ways import merged_models, needs, needs_in_words, way_out

    names = merged_models(manifest)
    columns, rows = ["model", "norm of its change"], [[n] for n in names]
    for row, norm in zip(rows, sums.norms, strict=True):
        row.append(f"{norm:.4g}")
    if sums.lambdas:
        columns += ["share kept", "lambda"]
        parts = zip(kept_shares(sums.tensors.values()), sums.lambdas, strict=True)
        for row, (share, factor) in zip(rows, parts, strict=True):
            row += [f"{share:.1%}", f"{factor:.4g}"]
    right = tuple(range(1, len(columns)))
    if len(names) > 1 and manifest.undo:
        mode = manifest.undo[-1]
        columns.append(f"unmerge --mode {mode}")
        for name, row in zip(names, rows, strict=True):
            needed = needs(manifest, way_out(manifest, mode, [name]), [name])
            row.append(needs_in_words(manifest, name, needed))
    table(columns, rows, right=right)


def _of_sums(manifest: Manifest, sums: SumsEntry) -> list[tuple[str, str]]:
    from mdm_kit.ledger.sums import UNSURE, smallest_margin
    from mdm_kit.ledger.ways import JOINS, joining
    from mdm_kit.words import counted, shown

    kept = counted(len(sums.files), "file") if sums.files else "none are kept"
    if sums.steps_back:
        kept += ", with the sum before the last model"
    pairs = [("sums", kept), ("one more", JOINS[joining(manifest)].replace("`", ""))]
    smallest = smallest_margin(sums.tensors)
    if smallest is not None:
        name, margin = smallest
        unsure = f"; under {UNSURE} another machine may count otherwise" if margin < UNSURE else ""
        pairs.append(("margin", f"{margin:.4g} at least, in {shown(name)}{unsure}"))
    if sums.rounded:
        of = f"the first {counted(sums.rounded, 'model')}, read back from rounded weights"
        pairs.append(("rounding", f"{sums.rounding:.2%} of the sum, of {of}"))
    return pairs
