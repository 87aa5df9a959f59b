"""`mdm-kit push`: publishes a finished merge."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdm_kit.cli import options

if TYPE_CHECKING:
    from mdm_kit.run.outlet import Published


@click.command("push")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("repo")
@options.visibility
@click.option("--revision", metavar="BRANCH", help="Made from main if missing.  [default: main]")
@click.option("--message", help="Title of the commit.")
@click.option(
    "--supersedes",
    metavar="OLD/REPO",
    help="Its card will lead to REPO: for a merge that a model was taken out of.",
)
@options.as_json
def command(
    source: Path,
    repo: str,
    private: bool | None,
    revision: str | None,
    message: str | None,
    supersedes: str | None,
    as_json: bool,
) -> None:
    """Publish the merged folder SOURCE as the model REPO (you/name) on the Hub, in one commit.

    Every byte is checked against the manifest first, and every text for secrets. Files of an
    earlier merge there are replaced; nothing is sent twice, and the same push again does nothing.
    """
    from mdm_kit.api import push
    from mdm_kit.cli.screen import ByteProgress, facts

    with ByteProgress("pushing") as progress:
        published = push(
            source,
            repo,
            private=private,
            revision=revision,
            message=message,
            supersedes=supersedes,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(asdict(published)))
    else:
        facts(published_facts(published))


def published_facts(published: Published) -> list[tuple[str, str]]:
    """Return the labelled lines that say where a merge was published."""
    from mdm_kit.words import human_bytes, shown

    place = f"{shown(published.repo)}@{published.commit}"
    sent = f"{published.n_files} files changed, {human_bytes(published.sent_nbytes)}"
    return [
        ("published", place),
        ("branch", f"{shown(published.revision)}, {sent if published.changed else _THERE}"),
        ("seen by", "you and your organisation" if published.private else "everybody"),
        *([("kept models", shown(published.deltas))] if published.deltas else []),
        ("check it", f"mdm-kit verify {place}"),
    ]


_THERE = "which held it already: nothing was sent"
