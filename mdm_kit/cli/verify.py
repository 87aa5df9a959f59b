"""`mdm-kit verify`: is a merged folder what its manifest says?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mdm_kit.cli import options
from mdm_kit.cli.edit_options import places
from mdm_kit.cli.unmerge import NOTHING_LEFT, guarantee
from mdm_kit.words import counted, shown

if TYPE_CHECKING:
    from mdm_kit.bundle.verify import Verified
    from mdm_kit.ledger.entries import Mode
    from mdm_kit.ledger.manifest import Manifest
    from mdm_kit.ledger.removal import Guarantee
    from mdm_kit.sources import Site


@click.command("verify")
@click.argument("source")
@click.option("--deep", is_flag=True, help="Make the merge again from its models and compare.")
@places
@options.as_json
def command(source: str, deep: bool, places: tuple[tuple[str, str], ...], as_json: bool) -> int:
    """Check the finished merge SOURCE, its history, ledger, sums and weights.

    SOURCE is a folder, every byte of which is read once, or a repository owner/name[@revision], of
    which no weight is downloaded: the Hub's own digests are compared. Says which models it
    takes to take each one out. Ends with 0 when everything fits and with 4, naming each fault, when
    something does not.
    """
    from mdm_kit.api import verify
    from mdm_kit.bundle.verify import read_manifest
    from mdm_kit.cli.screen import ByteProgress, console
    from mdm_kit.sources import open_site

    site = open_site(source)
    manifest = read_manifest(site)
    total = sum(e.nbytes for e in (*manifest.files.values(), *manifest.shards.values()))
    made = sum(e.nbytes for e in manifest.shards.values()) if deep else 0
    with ByteProgress("verifying") as progress:
        progress.start(total + made, 0)
        found = verify(site, deep=deep, sources=dict(places), advance=progress.advance)
    if as_json:
        click.echo(json.dumps(_document(found, site)))
    elif found.sound:
        _show(found, site)
    for fault in found.faults:
        console(stderr=True).print(f"fault: {fault}", soft_wrap=True)
    if not found.sound:
        console(stderr=True).print(
            f"error: {counted(len(found.faults), 'fault')}: this is not the merge the "
            "manifest describes; get the original again or merge anew",
            soft_wrap=True,
        )
    return 0 if found.sound else 4


def _document(found: Verified, site: Site) -> dict[str, Any]:
    return {
        "pinned": site.pinned,
        "sound": found.sound,
        "faults": list(found.faults),
        "n_tensors": found.n_tensors,
        "n_files": found.n_files,
        "nbytes": found.nbytes,
        "by_hub_digest": {"n_files": found.n_declared, "nbytes": found.nbytes_declared},
        "plan": found.manifest.plan,
        "guarantees": [asdict(g) for g in found.guarantees],
        "remade": None if found.remade is None else asdict(found.remade),
    }


def _show(found: Verified, site: Site) -> None:
    from mdm_kit.cli.screen import facts
    from mdm_kit.words import human_bytes

    size = human_bytes(found.nbytes)
    lines = [
        (
            "sound",
            f"{counted(found.n_files, 'file')}, {counted(found.n_tensors, 'tensor')}, {size}: "
            "every digest fits",
        ),
        *([] if site.pinned is None else [("commit", site.pinned)]),
        ("checked", _how(found)),
        ("method", found.manifest.method),
        ("history", " -> ".join(e.operation for e in found.manifest.history)),
        ("plan", found.manifest.plan),
    ]
    if found.remade is not None:
        lines.append(("made again", "from its models, every tensor has the same bytes"))
        if found.remade.interference is not None:
            lines.append(
                (
                    "interference",
                    f"components have cosines of up to {found.remade.interference:.1e} "
                    f"(rounding allows {found.remade.bound:.1e})",
                )
            )
    certificate = found.manifest.history[-1].certificate
    if certificate is not None:
        removed = ", ".join(map(shown, certificate.removed))
        lines.append(
            ("certificate", f"without {removed}: {guarantee(certificate, found.manifest.patched)}")
        )
    facts(lines)
    show_guarantees(found.guarantees, found.manifest)


def _how(found: Verified) -> str:
    """Say of how much every byte was read, and what the Hub is believed."""
    from mdm_kit.words import human_bytes

    if not found.n_declared:
        return "every byte"
    rest = found.n_files - found.n_declared
    declared = f"{counted(found.n_declared, 'file')}, {human_bytes(found.nbytes_declared)}"
    read = f"{counted(rest, 'file')}, {human_bytes(found.nbytes - found.nbytes_declared)}"
    return f"{declared}, by the Hub's own digests; {read}, by every byte"


def show_guarantees(guarantees: Sequence[Guarantee], manifest: Manifest) -> None:
    """Print which models it takes to take each one out of a merge, and what each way gives."""
    from mdm_kit.cli.screen import facts, table
    from mdm_kit.ledger.ways import WAYS, way_out

    modes = [m for m in manifest.undo if any(m in g.modes for g in guarantees)]
    if not modes:
        return
    columns = [f"--mode {mode}" for mode in modes]
    table(
        ("model", f"unmerge {columns[0]}", *columns[1:]),
        [(g.model, *(_out_by(mode, g, manifest) for mode in modes)) for g in guarantees],
    )
    lines = []
    for mode in modes:
        ways = {way_out(manifest, mode, [g.model]): g.model for g in guarantees}
        for way, name in ways.items():
            of = f" of {shown(name, 40)}" if way == "back" else ""
            lines.append((f"{mode}{of}", f"{WAYS[way].done}: {WAYS[way].gives}"))
    facts(lines)


def _out_by(mode: Mode, g: Guarantee, manifest: Manifest) -> str:
    from mdm_kit.ledger.ways import needs_in_words

    if mode not in g.modes:
        return "-"
    if mode == "subtract":
        return _subtracted(g)
    return needs_in_words(manifest, g.model, g.needs[mode])


def _subtracted(g: Guarantee) -> str:
    if g.leak is None:
        return "-"
    if g.leak <= NOTHING_LEFT:
        return "nothing of it is left"
    return f"leak {g.leak:.2%}, its change stays with up to {g.residue:.3g}"
