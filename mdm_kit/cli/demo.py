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

MERGED = "merged"
REMOVED = "roman"
"""The skill that is taken out again: the middle one, which others stand before and behind."""


@click.command("demo")
@click.argument("folder", type=click.Path(path_type=Path), default="mdm-kit-demo")
@options.as_json
def command(folder: Path, as_json: bool) -> int:
    """Train a tiny model and three fine-tunes, merge them, take one out again, check and score.

    Everything is made in FOLDER from text that ships with Python; a second run finds the trained
    family there and only merges and scores.
    """
    from mdm_kit.cli.screen import console
    from mdm_kit.demo.family import build_family
    from mdm_kit.demo.recipe import demo_recipe

    started = time.monotonic()
    talk = console(stderr=True)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    family = build_family(folder / "family", lambda line: talk.print(line, soft_wrap=True))
    recipe, out, less = folder / "recipe.yml", folder / "merged", folder / f"without-{REMOVED}"
    recipe.write_text(demo_recipe(family), encoding="utf-8")
    sound = _merge(recipe, out, quiet=as_json) and _unmerge(out, less, quiet=as_json)
    talk.print("scoring the base, the three fine-tunes and both merges")
    scores = _scores(family, out, less)
    if as_json:
        document = {"out": str(out), "unmerged": str(less), "sound": sound, "scores": scores}
        click.echo(json.dumps(document))
        return 0 if sound else 4
    _show(family, scores, out, less)
    console().print(f"\n{time.monotonic() - started:.0f} s in all. The merged model: {out}")
    return 0 if sound else 4


def _merge(recipe: Path, out: Path, *, quiet: bool) -> bool:
    """Plan, merge and verify; return whether the merge is sound."""
    from mdm_kit.api import merge, plan, verify
    from mdm_kit.cli.plan import show_plan
    from mdm_kit.cli.screen import ByteProgress, console

    if not quiet:
        console().print(f"\n$ mdm-kit plan {recipe}")
        with plan(recipe) as made:
            show_plan(made)
        console().print(f"\n$ mdm-kit merge {recipe} {out}")
    with ByteProgress("merging") as progress:
        merge(recipe, out, restart="fresh", overwrite=True, progress=progress)
    found = verify(out)
    if not quiet:
        console().print(f"\n$ mdm-kit verify {out}")
        fits = f"every digest of {found.n_files} files and {found.n_tensors} tensors fits"
        console().print(fits if found.sound else "\n".join(found.faults))
    return found.sound


def _unmerge(out: Path, less: Path, *, quiet: bool) -> bool:
    """Take one skill out and make the rest again from its models; return whether both agree."""
    from mdm_kit.api import verify
    from mdm_kit.api_edits import Running, unmerge
    from mdm_kit.cli.screen import console

    unmerge(out, less, [REMOVED], running=Running(restart="fresh", overwrite=True))
    found = verify(less, deep=True)
    if not quiet:
        console().print(f"\n$ mdm-kit unmerge {out} {less} --drop {REMOVED}")
        console().print(f"$ mdm-kit verify --deep {less}")
        again = "merged again without it, every tensor has the same bytes"
        console().print(again if found.sound else "\n".join(found.faults))
    return found.sound


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier demo."""
    if folder.exists() and not folder.is_dir():
        raise OutputExists(f"{shown(str(folder))} is a file; name a folder for the demo")
    strangers = folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir())
    if strangers and not (folder / "family").is_dir():
        raise OutputExists(
            f"{shown(str(folder))} holds files that are not the demo's; name a new folder"
        )


def _scores(family: Family, out: Path, less: Path) -> Scores:
    from mdm_kit.demo.skills import score

    skills = {s.name: s.folder for s in family.skills}
    rows = {"base": family.base, **skills, MERGED: out, f"without {REMOVED}": less}
    return {name: score(path, family.tasks) for name, path in rows.items()}


def _show(family: Family, scores: Scores, out: Path, less: Path) -> None:
    from mdm_kit.cli.screen import console, table
    from mdm_kit.demo.skills import answers

    names = [t.name for t in family.tasks]
    console().print("\nShare of held-out questions answered exactly:")
    table(
        ("model", *names, "mean"),
        [
            (
                f"{model} (all three)" if model == MERGED else model,
                *(f"{row[n]:.0%}" for n in names),
                f"{sum(row.values()) / len(row):.0%}",
            )
            for model, row in scores.items()
        ],
        right=range(1, len(names) + 2),
    )
    console().print(f"What the merged model says, and what is left without {REMOVED}:")
    for task in family.tasks:
        question = task.test[0]
        (whole,), (rest,) = (answers(folder, [question.prompt]) for folder in (out, less))
        said = f"{question.prompt} {whole}"
        console().print(f"  {said:<28}{question.prompt} {rest}")
