"""`mdm-kit verify`: is a merged folder what its manifest says?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdm_kit.cli import options
from mdm_kit.cli.edit_options import places
from mdm_kit.cli.unmerge import NOTHING_LEFT, guarantee
from mdm_kit.words import shown

if TYPE_CHECKING:
    from mdm_kit.bundle.verify import Verified
    from mdm_kit.ledger.removal import Guarantee


@click.command("verify")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--deep", is_flag=True, help="Make the merge again from its models and compare.")
@places
@options.as_json
def command(source: Path, deep: bool, places: tuple[tuple[str, str], ...], as_json: bool) -> int:
    """Read the merged folder SOURCE once and check every byte, its history, ledger and weights.

    Says how each model can be taken out of it. Ends with 0 when everything fits and with 4, naming
    each fault, when something does not.
    """
    from mdm_kit.api import verify
    from mdm_kit.bundle.verify import read_manifest
    from mdm_kit.cli.screen import ByteProgress, console

    manifest = read_manifest(source)
    total = sum(e.nbytes for e in (*manifest.files.values(), *manifest.shards.values()))
    made = sum(e.nbytes for e in manifest.shards.values()) if deep else 0
    with ByteProgress("verifying") as progress:
        progress.start(total + made, 0)
        found = verify(source, deep=deep, sources=dict(places), advance=progress.advance)
    if as_json:
        click.echo(json.dumps(_document(found)))
    elif found.sound:
        _show(found)
    for fault in found.faults:
        console(stderr=True).print(f"fault: {fault}", soft_wrap=True)
    if not found.sound:
        console(stderr=True).print(
            f"error: {len(found.faults)} fault(s): this is not the folder the manifest describes; "
            "get the original again or merge anew",
            soft_wrap=True,
        )
    return 0 if found.sound else 4


def _document(found: Verified) -> dict[str, Any]:
    return {
        "sound": found.sound,
        "faults": list(found.faults),
        "n_tensors": found.n_tensors,
        "n_files": found.n_files,
        "nbytes": found.nbytes,
        "plan": found.manifest.plan,
        "guarantees": [asdict(g) for g in found.guarantees],
        "remade": None if found.remade is None else asdict(found.remade),
    }


def _show(found: Verified) -> None:
    from mdm_kit.cli.screen import facts
    from mdm_kit.words import human_bytes

    size = human_bytes(found.nbytes)
    lines = [
        ("sound", f"{found.n_files} files, {found.n_tensors:,} tensors, {size}: every digest fits"),
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
        lines.append(("certificate", f"without {removed}: {guarantee(certificate)}"))
    facts(lines)
    show_guarantees(found.guarantees)


def show_guarantees(guarantees: Sequence[Guarantee]) -> None:
    """Print how each model can be taken out, and what would be left of it."""
    from mdm_kit.cli.screen import table

    if not any(g.modes for g in guarantees):
        return
    table(
        ("model", "unmerge --mode rebuild", "--mode exact", "--mode subtract"),
        [
            (
                g.model,
                "the bytes without it" if "rebuild" in g.modes else "-",
                "one step of the dtype away" if "exact" in g.modes else "-",
                _subtracted(g),
            )
            for g in guarantees
        ],
    )


def _subtracted(g: Guarantee) -> str:
    if g.leak is None or "subtract" not in g.modes:
        return "-"
    if g.leak <= NOTHING_LEFT:
        return "nothing of it is left"
    return f"leak {g.leak:.2%}, its change stays with up to {g.residue:.3g}"
