"""`mdm-kit merge`: carries a recipe out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdm_kit.cli import options
from mdm_kit.errors import UsageError

if TYPE_CHECKING:
    from mdm_kit.api import Compat
    from mdm_kit.planner.plan import Plan
    from mdm_kit.run.merge import Merged
    from mdm_kit.run.profile import Profile


@click.command("merge")
@options.recipe_file
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@options.threads
@options.max_memory
@options.shard_size
@click.option("--resume", is_flag=True, help="Go on with an interrupted merge (the default).")
@click.option("--fresh", is_flag=True, help="Throw an interrupted merge away and start anew.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is a finished merge.")
@click.option("--hash-sources", is_flag=True, help="Record the sha256 of every source file.")
@options.compat
@options.download
@click.option(
    "--push",
    "push_to",
    metavar="[REPO]",
    is_flag=False,
    flag_value="",
    help="Publish the result on the Hub, as REPO or as the recipe's push says; uploads as it goes.",
)
@click.option("--no-local", is_flag=True, help="With --push: keep nothing here, OUT neither.")
@options.visibility
@click.option("--profile", "profiled", is_flag=True, help="Show where the time went.")
@options.as_json
def command(
    recipe: str,
    out: Path,
    device: str,
    threads: int | None,
    max_memory: int,
    shard_size: int,
    resume: bool,
    fresh: bool,
    overwrite: bool,
    hash_sources: bool,
    compat: Compat | None,
    download: bool,
    push_to: str | None,
    no_local: bool,
    private: bool | None,
    profiled: bool,
    as_json: bool,
) -> None:
    """Merge the models of RECIPE into the new folder OUT.

    An interrupted merge goes on where it stopped when the same command runs again. OUT appears
    whole, in one step, at the end.
    """
    if resume and fresh:
        raise UsageError("--resume and --fresh exclude one another; give one of them")
    if push_to is None and (no_local or private is not None):
        raise UsageError("--no-local, --private and --public go with --push; give it, too")
    from mdm_kit.api import plan
    from mdm_kit.bundle.stage import check_output
    from mdm_kit.cli.plan import show_findings
    from mdm_kit.cli.screen import ByteProgress

    started = time.monotonic()
    if push_to is None:
        check_output(out.absolute(), overwrite=overwrite)
    with plan(
        recipe,
        shard_nbytes=shard_size,
        threads=threads,
        memory_nbytes=max_memory,
        compat=compat,
        download=download,
    ) as made:
        made.check()
        show_findings(made)
        run = _run(made, out, push_to, private, local=not no_local)
        with ByteProgress("merging") as progress:
            merged = run(
                device=device,
                restart="fresh" if fresh else "resume" if resume else "auto",
                overwrite=overwrite,
                hash_sources=hash_sources,
                progress=progress,
            )
    seconds = time.monotonic() - started
    if as_json:
        click.echo(
            json.dumps(
                {
                    "out": str(merged.out),
                    "plan": merged.plan_digest,
                    "nbytes": merged.nbytes,
                    "shards": merged.shards,
                    "seconds": round(seconds, 3),
                    "profile": {n: asdict(s) for n, s in merged.profile.stages.items()},
                    "published": asdict(merged.published) if merged.published else None,
                }
            )
        )
        return
    _show(made, merged, out, seconds, local=not no_local)
    if profiled:
        show_profile(merged.profile)


def _run(
    made: Plan, out: Path, push_to: str | None, private: bool | None, *, local: bool
) -> Callable[..., Merged]:
    """Return what carries the plan out: a merge, or a merge that is pushed."""
    if push_to is None:
        from mdm_kit.run.merge import run_plan

        return partial(run_plan, made, out)
    from mdm_kit.api import push_of
    from mdm_kit.publish.merging import merge_and_push

    target = push_of(made.recipe, push_to or True)
    target = target if private is None else replace(target, private=private)
    return partial(merge_and_push, made, out, target, local=local)


def _show(made: Plan, merged: Merged, out: Path, seconds: float, *, local: bool) -> None:
    from mdm_kit.cli.push import published_facts
    from mdm_kit.cli.screen import facts
    from mdm_kit.planner.originals import originals_of
    from mdm_kit.words import human_bytes, shown

    n_models = sum(s.role in ("base", "model") for s in originals_of(made))
    how = ", then ".join([*(s.plan.method for s in made.stages), made.method])
    folder = shown(str(out))
    here = [
        ("written", f"{human_bytes(merged.nbytes)} in {seconds:.1f} s"),
        ("folder", folder),
        ("check it", f"mdm-kit verify {folder}"),
    ]
    facts(
        [
            ("merged", f"{made.n_tensors:,} tensors of {n_models} models, {how}"),
            *(here if local else []),
            *(published_facts(merged.published) if merged.published else []),
        ]
    )


def show_profile(profile: Profile) -> None:
    """Print what each stage took, summed over its threads."""
    from mdm_kit.cli.screen import table
    from mdm_kit.run.profile import WHAT
    from mdm_kit.words import human_bytes

    rows = [
        (
            WHAT[name],
            f"{spent.seconds:.2f} s",
            human_bytes(spent.nbytes) if spent.nbytes else "",
            f"{human_bytes(int(spent.nbytes / spent.seconds))}/s" if spent.nbytes else "",
        )
        for name, spent in profile.stages.items()
        if spent.seconds
    ]
    table(("stage", "time", "bytes", "rate"), rows, right=(1, 2, 3))
