"""`mdm-kit extract-lora`: what a fine-tune changed of its base, as a LoRA."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdm_kit.cli import options

if TYPE_CHECKING:
    from mdm_kit.adapters.extracted import ExtractedLora, Other, Pair

KINDS_SHOWN = 40
"""Kinds of modules a table lists, those of the largest changes; --json has every module."""
OTHERS_SHOWN = 20
"""The same of tensors without factors."""


@click.command("extract-lora")
@click.argument("model", metavar="MODEL")
@click.argument("base", metavar="BASE")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--rank", type=click.IntRange(min=1), help="Rank of every pair.  [default: 32]")
@click.option(
    "--energy",
    type=click.FloatRange(0, 1, min_open=True),
    help="In place of a rank: keep this share of each change's squared norm.",
)
@click.option("--max-rank", type=click.IntRange(min=1), help="With --energy: the largest rank.")
@click.option(
    "--save-modules",
    is_flag=True,
    help="Put changed modules that take no factors in whole: norms, embeddings, routers.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="What the factors are stored as.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random test matrices.")
@options.threads
@options.as_json
def command(
    model: str,
    base: str,
    out: Path,
    rank: int | None,
    energy: float | None,
    max_rank: int | None,
    save_modules: bool,
    dtype: str,
    seed: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write what MODEL changed of BASE to the new folder OUT, as a LoRA that peft loads.

    Models are folders or Hub ids, as a recipe names them. Every changed linear weight becomes a
    pair of factors; what else changed is listed with its share of the change.
    """
    from mdm_kit.api_adapters import extract_lora
    from mdm_kit.cli.screen import ByteProgress

    with ByteProgress("extracting") as progress:
        found = extract_lora(
            model,
            base,
            out,
            rank=rank,
            energy=energy,
            max_rank=max_rank,
            save_modules=save_modules,
            dtype=dtype,
            seed=seed,
            threads=threads,
            progress=progress,
        )
    for note in found.notes:
        click.echo(note, err=True)
    if as_json:
        click.echo(json.dumps({"model": model, "base": base, **found.to_json()}, allow_nan=False))
        return
    _show_pairs(found)
    _show_others(found)
    _show_summary(found)


def _show_pairs(found: ExtractedLora) -> None:
    from mdm_kit.adapters.modules import kind_of
    from mdm_kit.cli.screen import table

    kinds: dict[str, list[Pair]] = {}
    for pair in found.pairs:
        kinds.setdefault(kind_of(pair.tensor), []).append(pair)
    rows = sorted(kinds.items(), key=lambda item: -found.share(item[1]))
    table(
        ("linear weights", "changed", "rank", "share of change", "kept", "least kept"),
        [
            (
                kind,
                f"{len(pairs):,}",
                _span(p.rank for p in pairs),
                f"{found.share(pairs):.2%}",
                _percent(1.0 - sum(p.lost for p in pairs) / sum(p.change for p in pairs)),
                _percent(min(p.kept for p in pairs)),
            )
            for kind, pairs in rows[:KINDS_SHOWN]
        ],
        right=(1, 2, 3, 4, 5),
    )
    if len(rows) > KINDS_SHOWN:
        click.echo(f"... and {len(rows) - KINDS_SHOWN:,} more kinds; --json has all", err=True)


def _show_others(found: ExtractedLora) -> None:
    from mdm_kit.cli.screen import table

    if not found.others:
        return
    rows = sorted(found.others, key=lambda other: -other.change)
    table(
        ("no linear weights", "changed", "share of change", "why", "in the adapter"),
        [
            (kind, f"{len(others):,}", f"{found.share(others):.2%}", others[0].why, _saved(others))
            for kind, others in _by_kind(rows)[:OTHERS_SHOWN]
        ],
        right=(1, 2),
    )


def _by_kind(others: Iterable[Other]) -> list[tuple[str, list[Other]]]:
    from mdm_kit.adapters.modules import kind_of

    kinds: dict[str, list[Other]] = {}
    for other in others:
        kinds.setdefault(kind_of(other.tensor), []).append(other)
    return list(kinds.items())


def _saved(others: Sequence[Other]) -> str:
    n = sum(other.saved for other in others)
    return "no" if not n else "whole" if n == len(others) else f"{n} whole"


def _show_summary(found: ExtractedLora) -> None:
    from mdm_kit.cli.screen import facts
    from mdm_kit.words import counted, human_bytes, shown

    pairs = [
        ("kept", f"{_percent(found.kept)} of the change's squared norm"),
        ("relative error", f"{found.relative_error:.4g}"),
        (
            "adapter",
            f"{human_bytes(found.nbytes)}; the model has {human_bytes(found.model_nbytes)}",
        ),
    ]
    left = [other for other in found.others if not other.saved]
    if left:
        what = f"{counted(len(left), 'changed tensor')}, {found.share(left):.2%} of the change"
        hint = "" if any(o.saved for o in found.others) else "; --save-modules takes what it can"
        pairs.append(("left out", what + hint))
    if found.clamped:
        what = f"{counted(found.clamped, 'weight')} with a side shorter than that rank"
        pairs.append(("rank cut", what))
    facts([*pairs, ("folder", shown(str(found.out)))])


def _span(ranks: Iterable[int]) -> str:
    found = sorted(set(ranks))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}-{found[-1]}"


def _percent(share: float) -> str:
    """Return a percentage that says 100 only where it is that, to all digits of the factors."""
    return ">99.99%" if 0.9999 < share < 1.0 - 1e-12 else f"{share:.2%}"
