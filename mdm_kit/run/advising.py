"""Advice before merging: each rule a function from what was measured to what to do."""

from __future__ import annotations

from collections.abc import Iterator

from mdm_kit.run.inspected import Advice, Inspection

NEARLY_ORTHOGONAL = 0.05
"""Cosines under this: two sums differ from orthogonal ones by a few per cent at most."""
ALIKE = 0.3
"""Cosines over this: what models share is added several times by a plain sum."""
SAME = 0.98
UNEQUAL = 5.0
"""Norms that differ by more than this factor."""


def advice_on(found: Inspection) -> tuple[Advice, ...]:
    """Return what all rules say, in their order."""
    return tuple(a for rule in RULES for a in rule(found))


def identical(found: Inspection) -> Iterator[Advice]:
    """A model without a change adds nothing."""
    for m in found.models:
        if m.kind == "identical":
            text = f"{m.name} adds nothing: take it out of the recipe, or look for the right model"
            yield Advice("identical", f"{m.name}: no element of it changed", text)


def another_base(found: Inspection) -> Iterator[Advice]:
    """A change larger than the base itself is rarely a fine-tune of it."""
    for m in found.models:
        if m.share > 1.0:
            text = f"{m.name} may be of another base than {found.reference}: see its model card"
            yield Advice("another_base", f"{m.name}: {m.share:.2f} of the base's norm", text)


def nearly_the_same(found: Inspection) -> Iterator[Advice]:
    """One of two equal models is enough."""
    for p in found.pairs:
        if p.cosine is not None and p.cosine >= SAME:
            text = f"{p.one} and {p.other} changed nearly the same; one of them is enough"
            yield Advice("nearly_the_same", f"cosine {p.cosine:.4f}", text)


def orthogonal(found: Inspection) -> Iterator[Advice]:
    """Changes that are orthogonal already gain nothing from being made so."""
    known = [abs(p.cosine) for p in found.pairs if p.cosine is not None]
    if known and max(known) < NEARLY_ORTHOGONAL:
        text = (
            "orthogonalising changes little; try task_arithmetic first, "
            "with a small sweep of lambda"
        )
        yield Advice("orthogonal", f"largest cosine {max(known):.4f}", text)


def overlapping(found: Inspection) -> Iterator[Advice]:
    """What models share is counted once by methods that orthogonalise."""
    for p in found.pairs:
        if p.cosine is not None and ALIKE < p.cosine < SAME:
            text = (
                f"{p.one} and {p.other} changed much alike, which a plain sum counts twice; "
                "try mdm_oc or covmerge"
            )
            yield Advice("overlapping", f"cosine {p.cosine:.4f}", text)


def merged_adapters(found: Inspection) -> Iterator[Advice]:
    """An adapter by itself is smaller, exact, and merged on its factors."""
    for m in found.models:
        if m.kind == "merged adapter":
            text = (
                f"{m.name} looks like an adapter merged into weights; name it as base+adapter if "
                "the adapter is published, or get one with mdm-kit extract-lora"
            )
            yield Advice("merged_adapters", f"{m.name}: rank about {m.rank}", text)


def unequal(found: Inspection) -> Iterator[Advice]:
    """The smallest of very unequal changes is drowned in a plain sum."""
    moved = [m for m in found.models if m.norm > 0.0]
    if len(moved) > 1:
        small, large = min(moved, key=lambda m: m.norm), max(moved, key=lambda m: m.norm)
        if large.norm > UNEQUAL * small.norm:
            text = f"{small.name} will hardly be heard beside {large.name}; give it a weight"
            yield Advice("unequal", f"norms differ {large.norm / small.norm:.1f} times", text)


RULES = (
    identical, another_base, nearly_the_same, orthogonal, overlapping, merged_adapters, unequal,
)  # fmt: skip
"""In the order their advice is given."""
