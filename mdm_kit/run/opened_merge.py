"""Opens a finished merge so that it can be planned anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mdm_kit.bundle.verify import read_manifest, read_products
from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.history import history_faults
from mdm_kit.ledger.laws import ledger_faults
from mdm_kit.ledger.manifest import MANIFEST_NAME
from mdm_kit.ledger.products import Products
from mdm_kit.planner.parents import Parents
from mdm_kit.sources import Source


@contextmanager
def opened_merge(
    folder: Path, given: Mapping[str, str | Source]
) -> Iterator[tuple[Parents, Products]]:
    """Open a merged folder to edit it: where its models are, and its inner products.

    Raises `SourceError` where there is no merge, `IntegrityError` where it does not hold together.
    """
    manifest = read_manifest(folder)
    products = read_products(folder, manifest)
    faults = [*history_faults(manifest), *ledger_faults(manifest, products)]
    if faults:
        raise IntegrityError(f"{MANIFEST_NAME}: {'; '.join(faults)}; get the original folder again")
    with Parents(folder, manifest, given) as parents:
        yield parents, products
