"""Options several commands share, and how their values are read."""

from __future__ import annotations

import re
from typing import Any

import click

LARGEST = 1e18
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


class Size(click.ParamType[int]):
    """A number of bytes: `5GB`, `500MB`, `2GiB` or a plain number."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes; fails for anything that is not a positive size."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        if not match or float(match[1]) <= 0:
            self.fail(f"expected a size like 5GB, 500MB or 2GiB, found {value!r}", param, ctx)
        step = 1024 if match[3] else 1000
        nbytes = float(match[1]) * step ** ("kmgt".index(match[2].lower()) + 1 if match[2] else 0)
        if not 1 <= nbytes < LARGEST:
            self.fail(f"expected from one byte to an exabyte, found {value!r}", param, ctx)
        return int(nbytes)


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
shard_size = click.option(
    "--shard-size", type=Size(), default="5GB", show_default=True, help="Largest output file."
)
threads = click.option(
    "--threads", type=click.IntRange(1, 256), default=None, help="Workers.  [default: one per core]"
)
max_memory = click.option(
    "--max-memory",
    type=Size(),
    default="2GB",
    show_default=True,
    help="Memory for tensors; those that do not fit whole are read twice where a method measures.",
)
compat = click.option(
    "--compat",
    type=click.Choice(["mergekit"]),
    default=None,
    help="Merge with the arithmetic of mergekit 0.1.5, to reproduce an old merge.",
)
download = click.option(
    "--download",
    is_flag=True,
    help="Take models of the Hub through its client's cache; else nothing of them is kept.",
)
visibility = click.option(
    "--private/--public",
    "private",
    default=None,
    help="Who may see a new repository.  [default: private]",
)
recipe_file = click.argument("recipe", type=click.Path())
