"""What cannot be said of sums at all: values that are no numbers, files outside of the folder."""

from __future__ import annotations

import contextlib
import json
from itertools import product
from pathlib import Path

import pytest
from tampering import GOLDEN, UP, renamed, seal, tampered

import mdm_kit
from mdm_kit.errors import IntegrityError

ABSURD = {
    "NaN": b"NaN",
    "an infinity": b"Infinity",
    "a number beyond float64": b"1e400",
    "an integer beyond float64": b"1" + b"0" * 400,
    "an integer beyond Python": b"1" + b"0" * 5000,
    "text": b'"1e400"',
    "nothing": b"null",
    "a list": b"[1]",
    "depth": b"[" * 5000 + b"]" * 5000,
}


PLACES = ("norms", "energies", "ranks", "margin", "rounding", "rounded")
NO_FAULT = ("nothing", "margin")  # a tensor without maps has none


@pytest.mark.parametrize(
    ("what", "place"), [pair for pair in product(ABSURD, PLACES) if pair != NO_FAULT]
)
def test_what_is_no_number_is_refused(what: str, place: str) -> None:
    marker = 4242424242

    content = json.loads((GOLDEN / "opcm" / "mdm_manifest.json").read_bytes())
    sums = content["sums"]
    fact = sums["tensors"][UP]
    lists = {"norms": sums["norms"], "energies": fact["energies"], "ranks": fact["ranks"][0]}
    if place in lists:
        lists[place][1] = marker
    else:
        (fact if place == "margin" else sums)[place] = marker
    raw = seal(content).replace(b"%d" % marker, ABSURD[what])
    with contextlib.suppress(ValueError, RecursionError):  # no JSON that could be sealed
        raw = seal(json.loads(raw))
    with pytest.raises(IntegrityError) as refused:
        mdm_kit.Manifest.from_bytes(raw)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../state-00001.safetensors",
        "deltas/../../state-00001.safetensors",
        "deltas/a/state-00001.safetensors",
        "deltas\\state-00001.safetensors",
        "deltas/state-00001.safetensors\n",
        "",
    ],
)
def test_a_file_outside_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tampered(tmp_path, "opcm", renamed(name))
    with pytest.raises(IntegrityError, match="is not a manifest"):
        mdm_kit.verify(folder)
    with pytest.raises(IntegrityError, match="is not a manifest"):
        mdm_kit.unmerge(folder, tmp_path / "out", ["m3"])
