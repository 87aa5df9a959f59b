"""What the commands that edit a merge have in common: options, the run, the last lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdm_kit.cli import options

if TYPE_CHECKING:
    from mdm_kit.api_edits import Running
    from mdm_kit.run.merge import Merged


class Place(click.ParamType[tuple[str, str]]):
    """`NAME=REF`: where a model of the merge lives now."""

    name = "name=ref"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return name and reference; fails where one of them is missing."""
        if isinstance(value, tuple):
            return value
        name, equals, reference = str(value).partition("=")
        if not (name and equals and reference):
            self.fail(f"expected NAME=FOLDER or NAME=owner/name, found {value!r}", param, ctx)
        return name, reference


places = click.option(
    "--source",
    "places",
    type=Place(),
    multiple=True,
    help="Where a model of the merge lives now; its digest must match.  (repeatable)",
)


def running_options(command: Any) -> Any:
    """Add the options of `merge` that an edit has too."""
    for option in reversed(
        (
            places,
            click.option("--device", default="auto", show_default=True, help="As in merge."),
            options.threads,
            options.max_memory,
            options.shard_size,
            click.option("--fresh", is_flag=True, help="Throw an interrupted run away."),
            click.option("--overwrite", is_flag=True, help="Replace OUT if it is a merge."),
            options.as_json,
        )
    ):
        command = option(command)
    return command


def running(
    device: str,
    threads: int | None,
    max_memory: int,
    shard_size: int,
    fresh: bool,
    overwrite: bool,
) -> Running:
    """Return the options as the API takes them."""
    from mdm_kit.api_edits import Running

    return Running(
        device=device,
        threads=threads,
        memory_nbytes=max_memory,
        shard_nbytes=shard_size,
        restart="fresh" if fresh else "auto",
        overwrite=overwrite,
    )


def show_edit(
    merged: Merged,
    out: Path,
    lines: Sequence[tuple[str, str]],
    after: Sequence[tuple[str, str]] = (),
    *,
    as_json: bool,
) -> None:
    """Print what an edit has made: one JSON document, or labelled lines, `after` at the end."""
    from mdm_kit.cli.screen import facts
    from mdm_kit.ledger.manifest import plain
    from mdm_kit.words import human_bytes, shown

    if as_json:
        document = {
            "out": str(merged.out),
            "plan": merged.plan_digest,
            "nbytes": merged.nbytes,
            "shards": merged.shards,
            "event": plain(merged.manifest.history[-1]),
        }
        click.echo(json.dumps(document))
        return
    facts(
        [
            *lines,
            ("written", human_bytes(merged.nbytes)),
            ("folder", shown(str(out))),
            ("check it", f"mdm-kit verify {shown(str(out))}"),
            *after,
        ]
    )
