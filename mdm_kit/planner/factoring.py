"""Tensors that only adapters change are merged on their factors: no change is formed whole.

That takes a base that all adapters are put on, and a method whose merged change lies in what the
factors span. A tensor that some model changes otherwise is merged from deltas, like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mdm_kit.methods.registry import methods
from mdm_kit.planner.nodes import Apply, Delta, Fold, Product, Read, Write
from mdm_kit.planner.survey import Survey, Surveyed
from mdm_kit.sources.adapted import AdaptedSource
from mdm_kit.sources.adapter_targets import Shift
from mdm_kit.words import TensorInfo


@dataclass(frozen=True, slots=True)
class _Adapter:
    """An adapter on the base: its factors by name, as their model's source reads them."""

    source: AdaptedSource
    factors: Mapping[str, TensorInfo]


def on_factors(writes: Sequence[Write], survey: Survey, *, keeps: bool) -> list[Write]:
    """Return the tensors, merged on factors where that can be.

    A merge that `keeps` sums of whole changes has them formed.
    """
    adapters = _on_the_base(survey)
    if not adapters or survey.base is None:
        return list(writes)
    return [_on_factors(write, adapters, keeps=keeps) for write in writes]


def _on_the_base(survey: Survey) -> dict[str, _Adapter]:
    """Return the adapters that are put on the very base, by model."""
    found = {}
    for model in survey.models:
        source = model.source
        if isinstance(source, AdaptedSource) and _is_base(source, survey.base):
            held = source.adapter.headers().tensors.values()
            found[model.name] = _Adapter(
                source, {t.name: replace(t, source=model.name) for t in held}
            )
    return found


def _is_base(source: AdaptedSource, base: Surveyed | None) -> bool:
    """Whether an adapter is put on the base, or on a copy of it at another place."""
    if base is None or source.model is base.source:
        return base is not None
    one, other = source.model, base.source
    if one.origin().kind == other.origin().kind:
        return one.fingerprint() == other.fingerprint()
    return one.content_fingerprint() == other.content_fingerprint()


def _on_factors(write: Write, adapters: Mapping[str, _Adapter], *, keeps: bool) -> Write:
    root = write.root
    if not isinstance(root, Fold) or not _can(root.delta, keeps=keeps):
        return write
    products = [_product(i, root.base, adapters) for i in root.delta.inputs]
    if not products or not all(products):
        return write
    inputs = tuple(p for p in products if p is not None)
    return replace(write, root=replace(root, delta=replace(root.delta, inputs=inputs)))


def _can(apply: Apply, *, keeps: bool) -> bool:
    """Whether what the method makes of products of factors is such a product again."""
    method = methods()[apply.method]
    if apply.weights is not None or apply.start is not None:
        return False
    if method.keeps_sums:
        return not keeps
    return apply.matrices is None and method.coefficients is not None


def _product(one: object, base: Read, adapters: Mapping[str, _Adapter]) -> Product | None:
    """Return a model's change as a product, None where it is none or of another tensor."""
    if not isinstance(one, Delta) or one.source.info.source not in adapters:
        return None
    info, model = one.source.info, one.source.info.source
    adapter = adapters[model]
    targets = adapter.source.targets
    if info.name != base.info.name or info.name in targets.replaced:
        return None
    change = targets.changed.get(info.name)
    if change is None:
        return Product(model, None)
    if isinstance(change, Shift):
        return None
    left, right = (Read(adapter.factors[t.name]) for t in (change.left, change.right))
    return Product(model, (left, right), change.turned, change.scale)
