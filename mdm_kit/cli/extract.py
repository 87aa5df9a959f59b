"""`mdm-kit extract`: a source model out of a merge that keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mdm_kit.cli import options
from mdm_kit.cli.edit_options import places


@click.command("extract")
@click.argument("source")
@click.argument("name")
@click.argument("out", type=click.Path(path_type=Path))
@places
@options.threads
@options.as_json
def command(
    source: str,
    name: str,
    out: Path,
    places: tuple[tuple[str, str], ...],
    threads: int | None,
    as_json: bool,
) -> None:
    """Write the model NAME of the merge SOURCE back to the new folder OUT, bit for bit.

    SOURCE is a folder or a repository owner/name[@revision]. It must keep the model: its recipe
    says ledger: {keep: deltas}, or deltas+base to keep the base as well, which models are kept
    against.
    """
    from mdm_kit.api_edits import extract
    from mdm_kit.bundle.verify import read_manifest
    from mdm_kit.cli.screen import ByteProgress, facts
    from mdm_kit.sources import open_site
    from mdm_kit.words import human_bytes, shown

    site = open_site(source)
    entries = {s.name: s for s in read_manifest(site).sources}
    nbytes = sum(f.nbytes for f in entries[name].files) if name in entries else 0
    with ByteProgress("extracting") as progress:
        progress.start(nbytes, 0)
        places_given = dict(places)
        extract(site, name, out, sources=places_given, threads=threads, advance=progress.advance)
    if as_json:
        click.echo(json.dumps({"out": str(out), "model": name, "nbytes": nbytes}))
        return
    facts(
        [
            ("extracted", f"{shown(name)}, {human_bytes(nbytes)}, every byte as it was"),
            ("folder", shown(str(out))),
        ]
    )
