"""`mdm-kit diff`: what changed between two models."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mdm_kit.cli import options

if TYPE_CHECKING:
    from mdm_kit.run.compared import Difference, Grouping, Products, TensorDifference, Total
    from mdm_kit.run.matching import Pair

MEASURES = ("changed", "relative norm", "cosine")
"""Columns that stand in every table, here as in the summary."""


@click.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--by",
    type=click.Choice(["layer", "kind"]),
    help="Show totals of layers, or of kinds: names without the layer's number.",
)
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Tensors to show, those of the largest relative change.",
)
@options.threads
@options.as_json
def command(
    a: str, b: str, by: Grouping | None, top: int, threads: int | None, as_json: bool
) -> None:
    """Show what changed from model A to model B: folders or Hub ids, as a recipe names them.

    Reads every tensor of the same name and shape once. Ends with 0 where they differ, too.
    """
    from mdm_kit.api_diff import diff
    from mdm_kit.cli.screen import ByteProgress

    with ByteProgress("comparing") as progress:
        found = diff(a, b, threads=threads, progress=progress)
    if as_json:
        click.echo(json.dumps({"a": a, "b": b, **found.to_json()}, allow_nan=False))
        return
    if by is not None:
        _show_groups(found, by)
    _show_tensors(found, top)
    _show_summary(found, a, b)


def _show_groups(found: Difference, by: Grouping) -> None:
    from mdm_kit.cli.screen import table

    groups = found.by(by)
    table(
        (by, "tensors", "elements", *MEASURES),
        [
            (
                name,
                f"{total.n_tensors:,}",
                f"{total.n_elements:,}",
                _share(total.changed_share if total.n_tensors else None),
                *_distances(total.products if total.n_numeric else None),
            )
            for name, total in groups.items()
        ],
        right=(1, 2, 3, 4, 5),
    )


def _show_tensors(found: Difference, top: int) -> None:
    from mdm_kit.cli.screen import table

    changed = sorted((t for t in found.tensors if t.n_changed), key=_largest_first)
    if not changed[:top]:
        return
    table(
        ("tensor", "dtype", *MEASURES, "largest |B - A|", "at"),
        [
            (
                t.name,
                _dtypes(t.pair),
                _share(t.changed_share),
                *_distances(t.numbers.products if t.numbers else None),
                *_largest(t),
            )
            for t in changed[:top]
        ],
        right=(2, 3, 4, 5, 6),
    )
    if len(changed) > top:
        more = f"... and {len(changed) - top:,} more changed tensors; --top shows more"
        click.echo(more, err=True)


def _largest_first(tensor: TensorDifference) -> tuple[float, float]:
    """Sort by relative norm, then by changed share; what has no norm comes last."""
    relative = tensor.numbers.products.relative_norm if tensor.numbers else None
    return 1.0 if relative is None else -relative, -(tensor.changed_share or 0.0)


def _show_summary(found: Difference, a: str, b: str) -> None:
    from mdm_kit.cli.screen import facts
    from mdm_kit.words import shown

    total = found.total
    pairs = [
        ("A", shown(a)),
        ("B", shown(b)),
        ("compared", f"{total.n_tensors:,} tensors, {total.n_elements:,} elements"),
        ("changed", _verdict(found, total)),
    ]
    if total.n_changed and total.n_numeric:
        relative, cosine = _distances(total.products)
        pairs += [("relative norm", relative), ("cosine", cosine)]
    facts([*pairs, *_set_apart(found)])


def _verdict(found: Difference, total: Total) -> str:
    if found.identical:
        return "nothing: the same bits in every tensor"
    if not total.n_tensors:
        return "no tensor of A has one of the same name and shape in B to compare with"
    if total.n_changed:
        return (
            f"{_share(total.changed_share)} of the elements, "
            f"in {total.n_changed_tensors:,} of {total.n_tensors:,} tensors"
        )
    if found.retyped:
        return "no value of what was compared; some are stored in another dtype"
    return "no bit of what was compared"


def _set_apart(found: Difference) -> list[tuple[str, str]]:
    """Return labelled lines for what a comparison of elements does not show."""
    from mdm_kit.sources.whereabouts import named

    lost = [(t.name, t.numbers) for t in found.tensors if t.numbers and t.numbers.n_lost]
    lost_a, lost_b = sum(n.lost_a for _, n in lost), sum(n.lost_b for _, n in lost)
    retyped = Counter(_dtypes(p) for p in found.retyped)
    shapes = [f"{p.name} {_shape(p.a.shape)} -> {_shape(p.b.shape)}" for p in found.reshaped]
    lines = [
        (len(found.only_a), "only in A", named(t.name for t in found.only_a)),
        (len(found.only_b), "only in B", named(t.name for t in found.only_b)),
        (len(shapes), "other shape", named(shapes)),
        (
            len(found.retyped),
            "other dtype",
            ", ".join(f"{n:,} {dtypes}" for dtypes, n in retyped.most_common()),
        ),
        (
            len(found.incomparable),
            "not compared",
            f"{named(p.name for p in found.incomparable)}: dtypes without values in common",
        ),
        (
            len(lost),
            "not finite",
            f"{lost_a:,} elements of A and {lost_b:,} of B are NaN or infinite and left out "
            f"of norms: {named(name for name, _ in lost)}",
        ),
    ]
    return [(label, f"{n:,} tensor{'s' if n > 1 else ''}: {text}") for n, label, text in lines if n]


def _dtypes(pair: Pair) -> str:
    a, b = pair.a.dtype, pair.b.dtype
    return a if a == b else f"{a} -> {b}"


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _share(share: float | None) -> str:
    """Return a percentage that says 0 or 100 only where it is; `-` where nothing is known."""
    if share is None:
        return "-"
    if 0.0 < share < 1e-4:
        return "<0.01%"
    if 0.9999 < share < 1.0:
        return ">99.99%"
    return f"{share:.2%}"


def _distances(products: Products | None) -> tuple[str, str]:
    """Return relative norm and cosine as they are printed."""
    if products is None:
        return "-", "-"
    relative, cosine = products.relative_norm, products.cosine
    return (
        "-" if relative is None else "A is zero" if math.isinf(relative) else f"{relative:.4g}",
        "-" if cosine is None else f"{cosine:.8f}",
    )


def _largest(tensor: TensorDifference) -> tuple[str, str]:
    numbers = tensor.numbers
    if numbers is None or numbers.largest_at is None:
        return "-", "-"
    return f"{numbers.largest:.4g}", f"{numbers.largest_at:,}"
