"""`mdm-kit add`: one more model onto a merge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdm_kit.cli.edit_options import running, running_options, show_edit
from mdm_kit.errors import UsageError

if TYPE_CHECKING:
    from mdm_kit.recipe import Addition


@click.command("add")
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", "models", multiple=True, required=True, help="The model.  (repeatable)")
@click.option("--name", "names", multiple=True, help="Its name; one for each --model, or none.")
@click.option(
    "--weight",
    "weights",
    multiple=True,
    type=float,
    help="Its weight; one for each --model, or none for the method's default.",
)
@running_options
def command(
    source: str,
    out: Path,
    models: tuple[str, ...],
    names: tuple[str, ...],
    weights: tuple[float, ...],
    places: tuple[tuple[str, str], ...],
    as_json: bool,
    **how: Any,
) -> None:
    """Merge the finished merge SOURCE with more models into the new folder OUT.

    SOURCE is a folder or a repository owner/name[@revision]. The bytes are those of one merge of
    all models, the new ones last. Only inner products with the
    new models are measured.
    """
    from mdm_kit.api_edits import add
    from mdm_kit.cli.screen import ByteProgress
    from mdm_kit.words import shown

    additions = _additions(models, names, weights)
    with ByteProgress("merging") as progress:
        merged = add(
            source, out, additions, sources=dict(places), running=running(**how), progress=progress
        )
    added = ", ".join(map(shown, merged.manifest.history[-1].added))
    lines = [("added", added), ("models", _models(merged.manifest.sources))]
    show_edit(merged, out, lines, as_json=as_json)


def _models(sources: Any) -> str:
    from mdm_kit.words import shown

    return ", ".join(shown(s.name) for s in sources if s.role == "model")


def _additions(
    models: tuple[str, ...], names: tuple[str, ...], weights: tuple[float, ...]
) -> list[Addition]:
    import math

    from mdm_kit.recipe import Addition, Scalar, WrongValue, check_name, parse_reference

    for flag, given in (("--name", names), ("--weight", weights)):
        if given and len(given) != len(models):
            raise UsageError(
                f"expected one {flag} for each of the {len(models)} --model, found {len(given)}"
            )
    for flag, check, values in (
        ("--model", lambda text: parse_reference(Scalar(text)), models),
        ("--name", check_name, names),
    ):
        for value in values:
            try:
                check(value)
            except WrongValue as problem:
                raise UsageError(f"{flag}: {problem}") from None
    if not all(map(math.isfinite, weights)):
        raise UsageError(f"--weight: expected a finite number, found {list(weights)}")
    return [
        Addition(m, names[i] if names else None, weights[i] if weights else None)
        for i, m in enumerate(models)
    ]
