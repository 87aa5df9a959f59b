"""`mdm-kit demo`: the whole loop on a small family that is really trained, without a network."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdm_kit.cli import options
from mdm_kit.errors import OutputExists
from mdm_kit.words import shown

if TYPE_CHECKING:
    from mdm_kit.demo.family import Family

Scores = dict[str, dict[str, float]]


@click.command("demo")
@click.argument("folder", type=click.Path(path_type=Path), default="mdm-kit-demo")
@options.as_json
def command(folder: Path, as_json: bool) -> int:
    """Train a tiny language model and three fine-tunes, merge them, check and score the merge.

    Everything is made in FOLDER from text that ships with Python; a second run finds the trained
    family there and only merges and scores.
    """
    from mdm_kit.api import merge, plan, verify
    from mdm_kit.cli.plan import show_plan
    from mdm_kit.cli.screen import ByteProgress, console
    from mdm_kit.demo.family import build_family
    from mdm_kit.demo.recipe import demo_recipe

    started = time.monotonic()
    talk = console(stderr=True)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    family = build_family(folder / "family", lambda line: talk.print(line, soft_wrap=True))
    recipe, out = folder / "recipe.yml", folder / "merged"
    recipe.write_text(demo_recipe(family), encoding="utf-8")
    if not as_json:
        console().print(f"\n$ mdm-kit plan {recipe}")
        with plan(recipe) as made:
            show_plan(made)
        console().print(f"\n$ mdm-kit merge {recipe} {out}")
    with ByteProgress("merging") as progress:
        merge(recipe, out, restart="fresh", overwrite=True, progress=progress)
    found = verify(out)
    talk.print("scoring the base, the three fine-tunes and the merge")
    scores = _scores(family, out)
    if as_json:
        click.echo(json.dumps({"out": str(out), "sound": found.sound, "scores": scores}))
        return 0 if found.sound else 4
    console().print(f"\n$ mdm-kit verify {out}")
    console().print(f"every digest of {found.n_files} files and {found.n_tensors} tensors fits\n")
    _show(family, scores, out)
    console().print(f"\n{time.monotonic() - started:.0f} s in all. The merged model: {out}")
    return 0 if found.sound else 4


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier demo."""
    if folder.exists() and not folder.is_dir():
        raise OutputExists(f"{shown(str(folder))} is a file; name a folder for the demo")
    strangers = folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir())
    if strangers and not (folder / "family").is_dir():
        raise OutputExists(
            f"{shown(str(folder))} holds files that are not the demo's; name a new folder"
        )


def _scores(family: Family, out: Path) -> Scores:
    from mdm_kit.demo.skills import score

    rows = {"base": family.base, **{s.name: s.folder for s in family.skills}, "merged": out}
    return {name: score(path, family.tasks) for name, path in rows.items()}


def _show(family: Family, scores: Scores, out: Path) -> None:
    from mdm_kit.cli.screen import console, table
    from mdm_kit.demo.skills import answers

    names = [t.name for t in family.tasks]
    console().print("Share of held-out questions answered exactly:")
    table(
        ("model", *names, "mean"),
        [
            (
                "merged (all three)" if model == "merged" else model,
                *(f"{row[n]:.0%}" for n in names),
                f"{sum(row.values()) / len(row):.0%}",
            )
            for model, row in scores.items()
        ],
        right=range(1, len(names) + 2),
    )
    console().print("What the merged model says:")
    for task in family.tasks:
        question = task.test[0]
        (answer,) = answers(out, [question.prompt])
        console().print(f"  {question.prompt} {answer}")
