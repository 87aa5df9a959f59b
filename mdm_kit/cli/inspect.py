"""`mdm-kit inspect`: what is inside a merged folder or a model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdm_kit.cli import options
from mdm_kit.errors import SourceError, UsageError

if TYPE_CHECKING:
    from mdm_kit.ledger.manifest import Manifest
    from mdm_kit.sources import Checkpoint


@click.command("inspect")
@click.argument("source", type=click.Path(path_type=Path))
@options.as_json
def command(source: Path, as_json: bool) -> None:
    """Show what is inside SOURCE: a merged folder, or any model folder with safetensors files.

    Reads headers and the manifest only; `mdm-kit verify` checks the bytes.
    """
    from mdm_kit.bundle.verify import read_manifest
    from mdm_kit.ledger.manifest import MANIFEST_NAME
    from mdm_kit.sources import FolderSource
    from mdm_kit.words import shown

    if source.is_file():
        raise UsageError(
            f"{shown(str(source))} is a file; inspect shows folders, `mdm-kit plan` shows recipes"
        )
    if not source.is_dir():
        raise SourceError(f"there is no folder {shown(str(source))}; check the path")
    with FolderSource(source.name, source) as opened:
        checkpoint = opened.headers()
    manifest = read_manifest(source) if (source / MANIFEST_NAME).is_file() else None
    if as_json:
        click.echo(json.dumps(_document(checkpoint, manifest)))
    else:
        _show(checkpoint, manifest)


def _document(checkpoint: Checkpoint, manifest: Manifest | None) -> dict[str, Any]:
    return {
        "files": {f.name: f.nbytes for f in checkpoint.files},
        "tensors": {
            t.name: {"shape": list(t.shape), "dtype": t.dtype, "file": t.file}
            for t in checkpoint.tensors.values()
        },
        "manifest": None if manifest is None else manifest.content(),
    }


def _show(checkpoint: Checkpoint, manifest: Manifest | None) -> None:
    from mdm_kit.cli.screen import facts, table
    from mdm_kit.words import human_bytes, shown

    tensors = checkpoint.tensors.values()
    dtypes = Counter(t.dtype for t in tensors)
    pairs = [
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
    parameters = ", ".join(f"{k}: {v}" for k, v in manifest.parameters.items())
    facts(
        [
            ("method", f"{manifest.method}{f' ({shown(parameters)})' if parameters else ''}"),
            *pairs,
            ("arithmetic", f"{', '.join(manifest.precision.compute)} on {manifest.device}"),
            ("made by", f"{manifest.tool}, {manifest.history[-1].time}"),
            ("plan", manifest.plan),
        ]
    )
