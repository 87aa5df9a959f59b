"""`mdm-kit inspect RECIPE`: what models changed, how alike they are, and advice."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mdm_kit.run.inspected import InspectedModel, Inspection, MapStructure


def inspect_recipe_file(recipe: str, threads: int | None, *, as_json: bool) -> int:
    """Plan a recipe, read its models, print what they changed; return the exit code."""
    from mdm_kit.api import plan
    from mdm_kit.cli.plan import show_findings
    from mdm_kit.cli.screen import ByteProgress
    from mdm_kit.run.inspecting import inspect_plan

    with plan(recipe, threads=threads) as made:
        show_findings(made)
        if made.exit_code:
            return made.exit_code
        with ByteProgress("inspecting") as progress:
            found = inspect_plan(made, progress)
    if as_json:
        click.echo(json.dumps(found.to_json(), allow_nan=False))
    else:
        _show(found)
    return 0


def _show(found: Inspection) -> None:
    from mdm_kit.cli.screen import facts, table
    from mdm_kit.sources.whereabouts import named
    from mdm_kit.words import human_bytes, shown

    table(
        ("model", "norm of its change", "of the base's", "changed", "kind"),
        [(m.name, f"{m.norm:.4g}", f"{m.share:.2%}", f"{m.changed:.2%}", _kind(m))
         for m in found.models],
        right=(1, 2, 3),
    )  # fmt: skip
    if found.pairs:
        table(
            ("pair", "cosine", "smallest of a layer", "largest of a layer"),
            [(f"{p.one}, {p.other}", *map(_number, (p.cosine, p.smallest, p.largest)))
             for p in found.pairs],
            right=(1, 2, 3),
        )  # fmt: skip
    rows = [row for m in found.models for row in _structure(m)]
    if rows:
        columns = ("model", "linear maps", "in top 16", "in top 64", "rank of 90%")
        table(columns, rows, right=(2, 3, 4))
    apart = [
        f"{m.name}: {len(m.not_compared):,}, {named(m.not_compared)}"
        for m in found.models
        if m.not_compared
    ]
    again = f", {human_bytes(found.again_nbytes)} again" if found.again_nbytes else ""
    facts(
        [
            ("compared with", shown(found.reference)),
            *(("note", note) for note in found.notes),
            *(("not compared", line) for line in apart),
            ("read", f"{human_bytes(found.read_nbytes)}{again}"),
            *(("advice", f"{a.text} ({a.figure})") for a in found.advice),
        ]
    )


def _structure(model: InspectedModel) -> list[tuple[str, str, str, str, str]]:
    """Return one row for each kind of linear map: from the least to the most of its layers."""
    from mdm_kit.run.change_kinds import kind_name

    kinds: dict[str, list[MapStructure]] = {}
    for m in model.maps:
        kinds.setdefault(kind_name(m.tensor), []).append(m)
    return [
        (
            model.name,
            kind,
            _range([f"{100 * share:.0f}" for share in sorted(m.top_16 for m in maps)], "%"),
            _range([f"{100 * share:.0f}" for share in sorted(m.top_64 for m in maps)], "%"),
            _range([_rank(m.rank_90) for m in sorted(maps, key=lambda m: m.rank_90 or math.inf)]),
        )
        for kind, maps in kinds.items()
    ]


def _range(values: list[str], unit: str = "") -> str:
    first, last = values[0], values[-1]
    return f"{first}{unit}" if first == last else f"{first} - {last}{unit}"


def _kind(model: InspectedModel) -> str:
    if model.kind == "adapter":
        return f"adapter, rank {model.rank}"
    if model.kind == "merged adapter":
        return f"looks like an adapter merged into weights, rank about {model.rank}"
    if model.kind == "identical":
        return "identical to the base"
    if model.kind == "partial":
        from mdm_kit.sources.whereabouts import named

        return f"partial, without {named(model.unchanged)}"
    return model.kind


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _rank(rank: int | None) -> str:
    from mdm_kit.run.change_structure import MOST

    return f"above {MOST}" if rank is None else str(rank)
