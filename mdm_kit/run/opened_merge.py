"""Opens a finished merge so that it can be planned anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mdm_kit.bundle.verify import read_manifest, read_products, with_kept
from mdm_kit.ledger.history import history_faults
from mdm_kit.ledger.laws import ledger_faults
from mdm_kit.ledger.products import Products
from mdm_kit.ledger.sums_laws import sums_faults
from mdm_kit.planner.parents import Parents
from mdm_kit.planner.summation import not_the_merge, summation_of
from mdm_kit.sources import Site, Source


@contextmanager
def opened_merge(
    site: Site, given: Mapping[str, str | Source]
) -> Iterator[tuple[Parents, Products]]:
    """Open a finished merge to edit it: where its models are, and its inner products.

    Raises `SourceError` where there is no merge, `IntegrityError` where it does not hold together.
    """
    manifest = read_manifest(site)
    products = read_products(site, manifest)
    faults = [*history_faults(manifest), *ledger_faults(manifest, products)]
    faults += sums_faults(manifest, summation_of(manifest))
    if faults:
        raise not_the_merge(faults)
    with Parents(with_kept(site, manifest), manifest, given) as parents:
        yield parents, products
