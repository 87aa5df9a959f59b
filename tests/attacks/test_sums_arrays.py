"""Files of kept sums that hold other arrays than the manifest says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save
from tampering import GOLDEN, NORM, STATE, UP, tampered

import mdm_kit
from mdm_kit.cli.main import main
from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.canonical import sha256_of

ARRAYS: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "a sum that is gone": ("opcm", lambda a: a.pop(f"sum:{UP}"), "in none of the files"),
    "no sum to step back to": ("opcm", lambda a: a.pop(f"before:{UP}"), "in none of the files"),
    "a sum of another shape": (
        "opcm",
        lambda a: a.update({f"sum:{UP}": a[f"sum:{UP}"].T.copy()}),
        "expected F32 [10, 6], found F32 [6, 10]",
    ),
    "a sum of another dtype": (
        "covmerge",
        lambda a: a.update({f"changes:{NORM}": np.zeros(6, np.float64)}),
        "expected I64 [6], found F64 [6]",
    ),
    "a sum too much": (
        "covmerge",
        lambda a: a.update({"changes:other": np.zeros(6, np.int64)}),
        "an array of no sum",
    ),
    "products without covariances": (
        "covmerge",
        lambda a: a.pop(f"covariances:{UP}"),
        "in none of the files",
    ),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_a_file_that_holds_other_sums_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    merge, change, words = ARRAYS[what]
    arrays = load_file(GOLDEN / merge / STATE)
    change(arrays)
    raw = save(arrays)
    entry = {"nbytes": len(raw), "sha256": sha256_of(raw)}
    folder = tampered(tmp_path, merge, lambda c: c["files"].update({STATE: entry}))
    (folder / STATE).write_bytes(raw)
    assert main(["verify", str(folder)]) == 4
    assert words in capsys.readouterr().err
    places = {name: str(GOLDEN / name) for name in ("base", "m1", "m2", "m3")}
    mode = "exact" if merge == "covmerge" else "rebuild"
    with pytest.raises(IntegrityError, match="get the original merge again"):
        mdm_kit.unmerge(folder, tmp_path / "out", ["m3"], mode=mode, sources=places)
