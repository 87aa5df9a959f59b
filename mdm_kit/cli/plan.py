"""`mdm-kit plan`: what a recipe would do, from headers only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mdm_kit.cli import options

if TYPE_CHECKING:
    from mdm_kit.api import Compat
    from mdm_kit.planner.plan import Plan


@click.command("plan")
@options.recipe_file
@options.shard_size
@options.threads
@options.max_memory
@options.compat
@click.option("--explain", is_flag=True, help="Show the value of each parameter, by tensor.")
@options.as_json
def command(
    recipe: str,
    shard_size: int,
    threads: int | None,
    max_memory: int,
    compat: Compat | None,
    explain: bool,
    as_json: bool,
) -> int:
    """Show what merging RECIPE would read, write and need; nothing is downloaded or written.

    Reads the recipe and the headers of its models. Everything wrong is reported at once.
    """
    from mdm_kit.api import plan

    with plan(
        recipe,
        shard_nbytes=shard_size,
        threads=threads,
        memory_nbytes=max_memory,
        compat=compat,
    ) as made:
        explain = explain and not made.exit_code
        if as_json:
            click.echo(json.dumps(made.to_json() | (_values(made) if explain else {})))
        elif not made.exit_code:
            show_plan(made)
        if explain and not as_json:
            from mdm_kit.cli.values import show_values

            show_values(made)
        show_findings(made)
        return made.exit_code


def show_findings(made: Plan) -> None:
    """Print warnings and notes of a plan on stderr."""
    if made.findings:
        from mdm_kit.cli.screen import console

        console(stderr=True).print(made.report(), soft_wrap=True)


def _values(made: Plan) -> dict[str, Any]:
    from mdm_kit.planner.explaining import values_by_tensor

    return {"values": values_by_tensor(made)}


def show_plan(made: Plan) -> None:
    """Print a plan as a person reads it."""
    from mdm_kit.cli.screen import facts, table
    from mdm_kit.methods.registry import methods
    from mdm_kit.words import human_bytes

    costs = made.costs
    table(
        ("model", "role", "from", "tensors", "size", "to download"),
        [
            (
                s.name,
                s.role,
                f"{s.repo}@{s.commit[:12]}" if s.repo and s.commit else s.ref,
                f"{s.n_tensors:,}",
                human_bytes(s.nbytes),
                human_bytes(s.download_nbytes) if s.download_nbytes else "-",
            )
            for s in made.sources
        ],
        right=(3, 4, 5),
    )
    dtypes = sorted({p.write.dtype for s in made.shards for p in s.tensors})
    first = made.shards[0].name
    shards = first if len(made.shards) == 1 else f"{first} ... {len(made.shards)} files"
    passes = "one pass"
    if costs.passes == 2:
        passes = f"two passes ({costs.read_twice:,} tensors are read twice)"
    elif costs.read_twice:
        again = f"{costs.read_twice:,} tensors are read more than once"
        passes = f"up to {costs.passes} passes ({again})"
    arithmetic = sorted({a.compute for w in made.writes if (a := w.apply())})
    facts(
        [
            ("method", f"{made.method} - {methods()[made.method].title}"),
            ("result", f"{made.n_tensors:,} tensors, {', '.join(dtypes)}, {shards}"),
            ("arithmetic", ", ".join(arithmetic) or "none, all is copied"),
            ("names, config and tokenizer from", made.donor),
            ("reads", f"{human_bytes(costs.read_nbytes)} in {passes}"),
            ("writes", human_bytes(costs.write_nbytes)),
            ("downloads", human_bytes(costs.download_nbytes)),
            (
                "memory",
                f"about {human_bytes(costs.memory_nbytes)} beyond Python and torch, "
                f"{costs.threads} thread(s)",
            ),
            ("disk", human_bytes(costs.disk_nbytes)),
            ("plan", made.digest),
        ]
    )
