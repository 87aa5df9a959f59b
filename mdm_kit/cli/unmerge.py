"""`mdm-kit unmerge`: takes a model out of a merge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from mdm_kit.cli.edit_options import running, running_options, show_edit

if TYPE_CHECKING:
    from mdm_kit.ledger.entries import Certificate, Mode

NOTHING_LEFT = 1e-12
"""A leak below this is the rounding of its own computation."""


@click.command("unmerge")
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--drop", "drop", multiple=True, required=True, help="A model's name.  (repeatable)")
@click.option(
    "--mode",
    type=click.Choice(["rebuild", "exact", "subtract"]),
    default="rebuild",
    show_default=True,
    help="How it is taken out.",
)
@click.option(
    "--reset-coefficients",
    is_flag=True,
    help="Give every survivor the default weight: weights may have been tuned beside the removed.",
)
@running_options
def command(
    source: str,
    out: Path,
    drop: tuple[str, ...],
    mode: str,
    reset_coefficients: bool,
    places: tuple[tuple[str, str], ...],
    as_json: bool,
    **how: Any,
) -> None:
    """Take models out of the finished merge SOURCE, into the new folder OUT.

    SOURCE is a folder or a repository owner/name[@revision].

    rebuild: base and survivors are folded anew with the inner products SOURCE keeps; the bytes are
    those of a merge that never held the removed models, which are not read. exact: the stored
    weights are patched, at most one step of the output dtype away; a merge that keeps exact sums
    loses the removed models' part of them, to the bit. subtract: the removed models'
    orthogonal components are taken away; what stays of them is computed and said.
    """
    from mdm_kit.api_edits import unmerge
    from mdm_kit.cli.screen import ByteProgress, console
    from mdm_kit.words import shown

    with ByteProgress("unmerging") as progress:
        merged = unmerge(
            source,
            out,
            drop,
            mode=cast("Mode", mode),
            reset_coefficients=reset_coefficients,
            sources=dict(places),
            running=running(**how),
            progress=progress,
        )
    certificate = merged.manifest.history[-1].certificate
    assert certificate is not None  # noqa: S101 -- an unmerge writes one
    left = [s.name for s in merged.manifest.sources if s.role == "model" and s.status == "merged"]
    lines = [
        ("removed", ", ".join(map(shown, certificate.removed))),
        ("mode", f"{mode}: {guarantee(certificate, merged.manifest.patched)}"),
        ("left", ", ".join(map(shown, left))),
    ]
    after = []
    if not Path(source).is_dir():
        old = shown(str(source).partition("@")[0])
        after = [("publish it", f"mdm-kit push {shown(str(out))} NEW/REPO --supersedes {old}")]
    show_edit(merged, out, lines, after, as_json=as_json)
    if mode == "subtract" and (certificate.leak or 0.0) > NOTHING_LEFT:
        console(stderr=True).print(
            "warning: this is not removal: the model's raw change is still in the weights; "
            "--mode rebuild takes all of it out",
            soft_wrap=True,
        )


def guarantee(certificate: Certificate, patched: Mode | None) -> str:
    """Return in words what a certificate says of weights that were `patched`, or folded anew."""
    from mdm_kit.words import shown

    if certificate.mode == "rebuild" or patched is None:
        return "the bytes equal a merge that never contained it"
    if certificate.mode == "exact":
        return (
            "at most one step of the output dtype away from a merge that never contained it; "
            "OUT can be rebuilt, not extended"
        )
    if (certificate.leak or 0.0) <= NOTHING_LEFT:
        return "nothing of it is left; OUT can be rebuilt, not extended"
    rest = ", ".join(f"{shown(n)} {r:.3g}" for n, r in certificate.residue.items())
    return (
        f"{certificate.leak:.2%} of the merged change differs from a merge that never contained "
        f"it (leak); its raw change keeps a coefficient of up to: {rest}"
    )
