"""A merge that was changed: verify ends 4 and says where, whoever made the change.

The careless edit the text; the careful also correct the manifest's digest; the thorough correct the
digests in its history as well, and are found where numbers contradict one another. A digest is a
checksum and no signature: who rewrites everything alike is not found.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import Spec
from merged_families import recipe, write_related

import mdm_kit
from mdm_kit.cli.main import main
from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.canonical import canonical, digest
from mdm_kit.ledger.manifest import sections_of

SPEC: Spec = {
    "model.layers.0.a": ((70, 31), torch.bfloat16),
    "model.layers.0.b": ((1201,), torch.float32),
    "model.layers.1.a": ((40, 41), torch.bfloat16),
}
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def merges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("family")
    write_related(root, "0.3", SPEC, n=4)
    mdm_kit.merge(recipe(root, (1.0, 0.7, -0.4, 0.5)), root / "all", shard_nbytes=6000)
    mdm_kit.unmerge(root / "all", root / "less", ["m2"], running=mdm_kit.Running(shard_nbytes=6000))
    return root


def swap(items: list[Any]) -> None:
    items[-1], items[-2] = items[-2], items[-1]


def in_recipe(old: str, new: str) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        assert old in content["recipe"]
        content["recipe"] = content["recipe"].replace(old, new)

    return edit


def first(mapping: dict[str, Any]) -> Any:
    return next(iter(mapping.values()))


EDITS: dict[str, tuple[Edit, str]] = {
    "a coefficient of the recipe": (in_recipe("weight: -0.4", "weight: -0.5"), "recipe"),
    "a coefficient of a model": (
        lambda c: c["sources"][1]["parameters"].update(weight=0.9),
        "sources",
    ),
    "a reordered model": (lambda c: swap(c["sources"]), "sources"),
    "a renamed model": (lambda c: c["sources"][1].update(name="m7"), "sources"),
    "another reference": (
        lambda c: c["sources"][1].update(reference="local:m1@sha256:" + "0" * 64),
        "sources",
    ),
    "a weight": (lambda c: first(c["tensors"])["weights"].__setitem__(0, 2.0), "tensors"),
    "a tensor's digest": (
        lambda c: first(c["tensors"]).update(blake3="blake3:" + "0" * 64),
        "tensors",
    ),
    "an energy": (lambda c: first(c["groups"])["q"].__setitem__(1, 7.0), "groups"),
    "the ledger's order": (lambda c: swap(c["ledger"]["models"]), "ledger"),
    "the ways to undo": (lambda c: c["undo"].clear(), "undo"),
    "a shard's digest": (
        lambda c: first(c["shards"]).update(sha256="sha256:" + "1" * 64),
        "shards",
    ),
    "the first event": (lambda c: c["history"].pop(0), "history"),
    "the last event": (lambda c: c["history"].pop(), "is not what"),
    "the order of events": (lambda c: c["history"].reverse(), "is not what"),
    "a certificate": (
        lambda c: c["history"][-1]["certificate"].update(removed=["m3"]),
        "history",
    ),
    "an event's time": (lambda c: c["history"][0].update(time="2020-01-01"), "history"),
}
FOUND_BY_NUMBERS = {
    "a coefficient of the recipe": "weights",
    "a reordered model": "sources",
    "a renamed model": "m7",
    "another reference": "m1",
    "a weight": "weights",
    "a tensor's digest": "was changed",
    "an energy": "q",
    "the ledger's order": "ledger",
    "a shard's digest": "its bytes were changed",
    "the first event": "cut off",
}


def tampered(merges: Path, tmp_path: Path, edit: Edit, *, how: str) -> Path:
    folder = tmp_path / "less"
    shutil.copytree(merges / "less", folder)
    path = folder / "mdm_manifest.json"
    content = json.loads(path.read_bytes())
    before = copy.deepcopy(content)
    edit(content)
    assert content != before
    stated = content.pop("digest")
    if how == "thorough" and content["history"]:
        content["history"][-1]["sections"] = sections_of(content)
        content["history"][-1]["plan"] = content["plan"]
    if how != "careless":
        stated = digest(content)
    path.write_bytes(canonical({**content, "digest": stated}))
    return folder


def said(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["verify", str(folder)]) == 4
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    assert "sound" not in found.out
    return found.err


@pytest.mark.parametrize("what", EDITS)
@pytest.mark.parametrize("how", ["careless", "careful"])
def test_an_edit_is_named(
    merges: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, how: str
) -> None:
    edit, words = EDITS[what]
    folder = tampered(merges, tmp_path, edit, how=how)
    assert words in said(folder, capsys)
    with pytest.raises(IntegrityError):
        mdm_kit.unmerge(folder, tmp_path / "out", ["m3"])
    with pytest.raises(IntegrityError):
        mdm_kit.add(folder, tmp_path / "out", [mdm_kit.Addition(str(merges / "m2"))])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["less"]


@pytest.mark.parametrize("what", FOUND_BY_NUMBERS)
def test_numbers_contradict_what_every_digest_fits(
    merges: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    folder = tampered(merges, tmp_path, EDITS[what][0], how="thorough")
    assert FOUND_BY_NUMBERS[what] in said(folder, capsys)


@pytest.mark.parametrize("name", ["mdm_ledger.safetensors", "model-00001-of-0000", "config", "x"])
@pytest.mark.parametrize("place", [0.02, 0.5, 0.98])
def test_a_flipped_bit_is_named(
    merges: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, place: float
) -> None:
    folder = tmp_path / "all"
    shutil.copytree(merges / "all", folder)
    (path,) = [p for p in folder.iterdir() if p.name.startswith(name)] or [
        folder / "mdm_manifest.json"
    ]
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 4
    path.write_bytes(data)
    words = said(folder, capsys)
    assert path.name.partition("-of-")[0] in words


def test_what_nobody_touched_is_sound(merges: Path) -> None:
    for name in ("all", "less"):
        assert mdm_kit.verify(merges / name, deep=True).sound
