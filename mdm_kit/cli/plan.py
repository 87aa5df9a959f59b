"""`mdm-kit plan`: what a recipe would do, from headers only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mdm_kit.cli import options
from mdm_kit.words import shown

if TYPE_CHECKING:
    from mdm_kit.api import Compat
    from mdm_kit.planner.plan import Plan


@click.command("plan")
@options.recipe_file
@options.shard_size
@options.threads
@options.max_memory
@options.compat
@options.download
@click.option("--push", "push_to", metavar="REPO", help="May the result be published there?")
@click.option("--explain", is_flag=True, help="Show the value of each parameter, by tensor.")
@options.as_json
def command(
    recipe: str,
    shard_size: int,
    threads: int | None,
    max_memory: int,
    compat: Compat | None,
    download: bool,
    push_to: str | None,
    explain: bool,
    as_json: bool,
) -> int:
    """Show what merging RECIPE would read, write and need; nothing is downloaded or written.

    Reads the recipe and the headers of its models. Everything wrong is reported at once.
    """
    from mdm_kit.api import plan, with_push_findings

    with with_push_findings(
        plan(
            recipe,
            shard_nbytes=shard_size,
            threads=threads,
            memory_nbytes=max_memory,
            compat=compat,
            download=download,
        ),
        push_to,
    ) as made:
        explain = explain and not made.exit_code
        if as_json:
            click.echo(json.dumps(made.to_json() | (_values(made) if explain else {})))
        elif not made.exit_code:
            show_plan(made)
        if explain and not as_json:
            from mdm_kit.cli.values import show_values

            for stage in made.stages:
                show_values(stage.plan, stage.name)
            show_values(made, "the result" if made.stages else None)
        show_findings(made)
        return made.exit_code


def show_findings(made: Plan) -> None:
    """Print warnings and notes of a plan on stderr."""
    if made.findings:
        from mdm_kit.cli.screen import console

        console(stderr=True).print(made.report(), soft_wrap=True)


def _values(made: Plan) -> dict[str, Any]:
    from mdm_kit.planner.explaining import values_by_tensor

    staged = {s.name: values_by_tensor(s.plan) for s in made.stages}
    return {"values": values_by_tensor(made)} | ({"stage_values": staged} if staged else {})


def _maps(made: Plan) -> str:
    from mdm_kit.planner.maps import gram_side, map_rule
    from mdm_kit.planner.sums import n_models

    sides = [
        gram_side(rule, m, n_models(apply))
        for part in (*(s.plan for s in made.stages), made)
        for w in part.writes
        if (rule := map_rule(w)) is not None and (apply := w.apply()) is not None
        for m in rule.matrices
    ]
    largest = f"{max(sides):,}"
    seconds = made.costs.maps_s
    time = f"{seconds / 60:,.0f} min" if seconds >= 120 else f"{seconds:.1g} s"
    return (
        f"{made.costs.maps:,}, by float64 Gram matrices of up to {largest} x {largest}; "
        f"about {time} of one core"
    )


def _factored(made: Plan) -> str:
    applies = [a for w in made.writes if (a := w.apply()) is not None]
    n = sum(a.is_factored for a in applies)
    return f"{n:,} of {len(applies):,} tensors, which only adapters change" if n else ""


def _pieces(made: Plan) -> str:
    n_slices = sum(len(module.slices) for module in made.recipe.modules)
    names = ", ".join(shown(m.name, 60) for m in made.recipe.modules if m.name is not None)
    slices = f"{n_slices:,} slice{'' if n_slices == 1 else 's'}"
    counts = [e for e in made.config_edits if isinstance(e.value, int)]
    layers = "; " + ", ".join(f"{e.path[-1]}: {e.value}" for e in counts) if counts else ""
    return slices + (f" in {names}" if names else "") + layers


def _show_stages(made: Plan) -> None:
    from mdm_kit.cli.screen import table
    from mdm_kit.words import human_bytes

    table(
        ("stage", "method", "of", "tensors", "size", "how"),
        [
            (
                s.name,
                s.plan.method,
                ", ".join(source.name for source in s.plan.sources),
                f"{s.plan.n_tensors:,}",
                human_bytes(s.plan.costs.write_nbytes),
                "made as it is read" if s.streams else "written to disk, then read",
            )
            for s in made.stages
        ],
        right=(3, 4),
    )


def _again(made: Plan) -> str:
    from mdm_kit.words import human_bytes

    return f"{human_bytes(made.costs.again_nbytes)} of stages, for want of memory"


def show_plan(made: Plan) -> None:
    """Print a plan as a person reads it."""
    from mdm_kit.cli.screen import facts, table
    from mdm_kit.methods.registry import methods
    from mdm_kit.planner.originals import originals_of
    from mdm_kit.words import human_bytes

    originals = originals_of(made)
    costs = made.costs
    table(
        ("model", "role", "from", "tensors", "size", "not here yet"),
        [
            (
                s.name,
                s.role,
                f"{s.repo}@{s.commit[:12]}" if s.repo and s.commit else s.ref,
                f"{s.n_tensors:,}",
                human_bytes(s.nbytes),
                human_bytes(s.download_nbytes) if s.download_nbytes else "-",
            )
            for s in originals
        ],
        right=(3, 4, 5),
    )
    if made.stages:
        _show_stages(made)
    dtypes = sorted({p.write.dtype for s in made.shards for p in s.tensors})
    first = made.shards[0].name
    shards = first if len(made.shards) == 1 else f"{first} ... {len(made.shards)} files"
    passes = "one pass"
    if costs.passes == 2:
        passes = f"two passes ({costs.read_twice:,} tensors are read twice)"
    elif costs.read_twice:
        again = f"{costs.read_twice:,} tensors are read more than once"
        passes = f"up to {costs.passes} passes ({again})"
    fetches = "fetches" if any(s.source.is_far for s in originals) else "downloads"
    parts = [*(s.plan for s in made.stages), made]
    arithmetic = sorted({a.compute for p in parts for w in p.writes if (a := w.apply())})
    facts(
        [
            ("method", f"{made.method} - {methods()[made.method].title}"),
            ("result", f"{made.n_tensors:,} tensors, {', '.join(dtypes)}, {shards}"),
            *([("put together of", _pieces(made))] if made.recipe.modules else []),
            ("arithmetic", ", ".join(arithmetic) or "none, all is copied"),
            *([("linear maps", _maps(made))] if costs.maps else []),
            *([("on factors", factored)] if (factored := _factored(made)) else []),
            ("names, config and tokenizer from", made.donor),
            ("reads", f"{human_bytes(costs.read_nbytes)} in {passes}"),
            *([("makes again", _again(made))] if costs.again_nbytes else []),
            ("writes", human_bytes(costs.write_nbytes)),
            (fetches, human_bytes(costs.download_nbytes)),
            (
                "memory",
                f"about {human_bytes(costs.memory_nbytes)} beyond Python and torch, "
                f"{costs.threads} thread(s)",
            ),
            ("disk", human_bytes(costs.disk_nbytes)),
            ("licence", made.terms.license.id if made.terms.license else "none is inherited"),
            ("plan", made.digest),
        ]
    )
