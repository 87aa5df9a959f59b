"""`mdm-kit init`: a commented recipe to start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdm_kit.cli import options
from mdm_kit.errors import OutputExists, UsageError
from mdm_kit.words import OUT_DTYPES, shown

if TYPE_CHECKING:
    from mdm_kit.authoring.writing import Draft


@click.command("init")
@click.argument("goal", required=False)
@click.option("--base", metavar="REF", help="The model the others were made from.")
@click.option(
    "--model", "models", metavar="REF", multiple=True, help="A model to merge; may be repeated."
)
@click.option("--dtype", type=click.Choice(list(OUT_DTYPES)), help="The dtype of the result.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write this file, not to stdout."
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@options.as_json
def command(
    goal: str | None,
    base: str | None,
    models: tuple[str, ...],
    dtype: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a commented recipe for GOAL, or list the goals.

    REF is a Hub id or a folder, with @revision where it is needed. What is not given stays a
    placeholder to be replaced.
    """
    from mdm_kit.authoring.goals import GOALS
    from mdm_kit.recipe import did_you_mean

    if goal is None:
        if base or models or dtype or output or force:
            raise UsageError("expected a goal before the options; mdm-kit init lists the goals")
        _list_goals(GOALS, as_json)
        return
    if goal not in GOALS:
        guess = did_you_mean(goal, GOALS) or "; mdm-kit init lists the goals"
        raise UsageError(f"there is no goal {shown(goal, 60)!r}{guess}")
    draft = GOALS[goal]
    text = _filled(goal, draft, base, models, dtype)
    if output is not None:
        _write(output, text, force=force)
    if as_json:
        file = None if output is None else str(output)
        click.echo(json.dumps({"goal": goal, "method": draft.method, "recipe": text, "file": file}))
    elif output is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"wrote {shown(str(output))}; next: mdm-kit plan {shown(str(output))}", err=True)


def _list_goals(goals: dict[str, Draft], as_json: bool) -> None:
    if as_json:
        rows = [{"goal": g, "method": d.method, "title": d.title} for g, d in goals.items()]
        click.echo(json.dumps(rows))
        return
    from mdm_kit.cli.screen import table

    table(("goal", "method", "what for"), [(g, d.method, d.title) for g, d in goals.items()])


def _filled(
    goal: str, draft: Draft, base: str | None, models: tuple[str, ...], dtype: str | None
) -> str:
    """Return the recipe with what was given in it; raises where the result would be wrong."""
    from mdm_kit.api import check_recipe
    from mdm_kit.errors import RecipeError

    if base is not None and not draft.takes_base:
        raise UsageError(f"{goal} has no base model; leave --base out")
    text = draft.filled(base=base, models=models, dtype=dtype).text()
    checked = check_recipe(text)
    if checked.findings:
        raise RecipeError(f"these options make no {goal} recipe:\n{checked.render()}")
    return text


def _write(file: Path, text: str, *, force: bool) -> None:
    where = shown(str(file))
    try:
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise OutputExists(f"{where} exists; take another name, or --force to replace it") from None
    except OSError as problem:
        raise UsageError(f"{where} cannot be written: {problem.strerror}") from None
