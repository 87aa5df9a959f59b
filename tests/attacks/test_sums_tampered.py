"""What a manifest says of sums, changed so that every digest fits: verify and edits find it.

Each edit breaks one law. Who rewrites everything alike, weights and sums with it, is not found.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tampering import (
    GOLDEN,
    HEAD,
    NORM,
    STATE,
    UP,
    Content,
    Edit,
    and_follow,
    drop,
    each,
    in_recipe,
    of_tensor,
    put,
    renamed,
    swap,
    tampered,
)

import mdm_kit
from mdm_kit.cli.main import main
from mdm_kit.errors import IntegrityError


def other_name(content: Content) -> None:
    """Move what is said of a tensor to one that is none."""
    tensors = content["sums"]["tensors"]
    tensors["\x1b[31mmodel.other"] = tensors.pop(NORM)


def unlisted(content: Content) -> None:
    content["files"]["deltas/state-00002.safetensors"] = content["files"][STATE]


def shaped(shape: list[int]) -> Edit:
    return lambda content: content["tensors"][UP].update(shape=shape)


NOT_THERE = "is none of the files of the merge"
EDITS: dict[str, tuple[str, Edit, str]] = {
    "a norm": ("opcm", put("norms", 1, value=1.25), "norm of m2"),
    "a lambda": ("opcm", put("lambdas", 2, value=1.5), "lambda of m3"),
    "the scale": ("opcm", put("scale", value=0.6), "scale: expected 0.59"),
    "no scale": ("opcm", put("scale", value=None), "scale: expected 0.59"),
    "a scale of sums without": ("covmerge", put("scale", value=1.0), "scale: expected one for"),
    "a scale that the recipe names": (
        "opcm",
        in_recipe("dtype: bfloat16", "dtype: bfloat16\nparameters: {scale: 0.5}"),
        "scale: expected 0.5,",
    ),
    "a scale of each tensor": (
        "opcm",
        in_recipe("dtype: bfloat16", "dtype: bfloat16\nparameters: {scale_scope: tensor}"),
        "scale: expected one for each tensor",
    ),
    "a copy that counts": ("opcm", put("tensors", HEAD, "counts", value=True), "norm of m1"),
    "another order of norms": (
        "opcm",
        and_follow(each("energies", swap)),
        "the first model is taken whole: expected the total",
    ),
    "a first model not whole": (
        "opcm",
        put("tensors", UP, "kept", 0, value=0.5),
        "something of it is said to be lost",
    ),
    "a first model with a rank": (
        "opcm",
        put("tensors", UP, "ranks", 0, 0, value=1),
        "something of it is said to be lost",
    ),
    "a larger total": (
        "opcm",
        and_follow(of_tensor(UP, "totals", 2, 1.2)),
        "added at a right angle",
    ),
    "a total that is too large": (
        "opcm",
        and_follow(of_tensor(NORM, "totals", 2, 9.0)),
        "takes the sum's norm from",
    ),
    "a total that is too small": (
        "opcm",
        and_follow(of_tensor(NORM, "totals", 1, 1e-4)),
        "takes the sum's norm from",
    ),
    "an energy": ("opcm", and_follow(of_tensor(UP, "energies", 2, 1.1)), "at a right angle"),
    "a smaller share": ("opcm", put("tensors", UP, "kept", 2, value=0.8), "at a right angle"),
    "a share over 1": ("opcm", put("tensors", UP, "kept", 2, value=1.01), "shares of 0 to 1"),
    "a negative energy": ("covmerge", put("tensors", UP, "energies", 0, value=-1.0), "at least 0"),
    "an enormous energy": ("covmerge", put("tensors", UP, "energies", 0, value=1e305), "1e+305"),
    "a negative total": ("opcm", put("tensors", UP, "totals", 2, value=-1.0), "at least 0"),
    "a rank too large": ("opcm", put("tensors", UP, "ranks", 0, 2, value=7), "0 to 6 in a tensor"),
    "a negative rank": ("opcm", put("tensors", UP, "ranks", 0, 2, value=-1), "0 to 6 in a tensor"),
    "maps without room": (
        "opcm",
        put("tensors", UP, "ranks", value=[[0, 6, 6]] * 2),
        "have no room",
    ),
    "ranks of fewer models": ("opcm", put("tensors", UP, "ranks", 0, value=[0, 2]), "expected 3"),
    "ranks of sums without": (
        "covmerge",
        put("tensors", UP, "ranks", value=[[0, 1, 1]]),
        "nothing is projected",
    ),
    "a margin under 1": ("opcm", put("tensors", UP, "margin", value=0.5), "at least 1"),
    "a margin without ranks": ("opcm", put("tensors", NORM, "margin", value=5.0), "beside ranks"),
    "energies of fewer models": (
        "opcm",
        drop("tensors", UP, "energies", 2),
        "energies: expected 3",
    ),
    "totals of fewer models": ("opcm", drop("tensors", UP, "totals", 2), "totals: expected 3"),
    "shares of fewer models": ("opcm", drop("tensors", UP, "kept", 2), "kept: expected 3"),
    "fewer norms": ("covmerge", drop("norms", 2), "norms: expected 3 numbers"),
    "no lambdas": ("opcm", put("lambdas", value=[]), "lambdas: expected 3"),
    "lambdas of sums without": ("covmerge", put("lambdas", value=[1.0] * 3), "expected 0 numbers"),
    "many lambdas": ("opcm", put("lambdas", value=[1.0] * 100_000), "found 100000"),
    "totals of sums without": (
        "covmerge",
        put("tensors", UP, "totals", value=[1.0] * 3),
        "totals: expected 0",
    ),
    "a tensor that is not said": ("opcm", drop("tensors", NORM), f"nothing is said of: {NORM}"),
    "a tensor that is none": ("covmerge", other_name, r"\x1b[31mmodel.other"),
    "no sums": ("opcm", lambda c: c.pop("sums"), "sums: are missing"),
    "a model that was not rounded": ("opcm", put("rounding", value=0.1), "models were rounded"),
    "more rounded models": ("opcm", put("rounded", value=4), "a number of models out of 3"),
    "fewer than no rounded models": ("opcm", put("rounded", value=-1), "models out of 3"),
    "a step back from nothing": ("opcm-less", put("steps_back", value=True), "before:"),
    "a step back without steps": (
        "covmerge",
        put("steps_back", value=True),
        "one model after another",
    ),
    "no step back": ("opcm", put("steps_back", value=False), "is an array of no sum"),
    "a file twice": ("opcm", put("files", value=[STATE, STATE]), "named twice"),
    "a file that is none": (
        "opcm",
        put("files", value=[STATE, "deltas/state-00002.safetensors"]),
        NOT_THERE,
    ),
    "a file of another role": ("opcm", put("files", value=["config.json"]), "is no name of a file"),
    "a file not named": ("opcm", unlisted, "not named as one of its sums"),
    "no files": ("opcm", put("files", value=[]), "wants some of their files kept, found none"),
    "files nobody wants": (
        "opcm",
        in_recipe('keep: "state"', "keep: references"),
        "wants none of their files kept, found 1",
    ),
    "a folder for a file": ("opcm", renamed("deltas/.."), "is no name of a file"),
    "a folder with dots": ("opcm", renamed("deltas/state-00001.safetensors.."), "is no name"),
    "another way out": ("covmerge", lambda c: c["undo"].append("subtract"), "undo:"),
    "a way out less": ("covmerge", lambda c: c["undo"].remove("exact"), "undo:"),
    "a way out more": ("opcm", lambda c: c["undo"].append("exact"), "undo:"),
    "another method": ("opcm", lambda c: c.update(method="covmerge"), "its recipe names opcm"),
    "a fold's method": ("opcm", lambda c: c.update(method="linear"), "its recipe names opcm"),
    "parameters that are none": (
        "opcm",
        in_recipe("dtype: bfloat16", "dtype: bfloat16\nparameters: {weight: 1}"),
        "cannot be merged by",
    ),
    "a removed model": ("covmerge", lambda c: c["sources"][1].update(status="removed"), "lose it"),
    "a negative shape": ("opcm", shaped([-10, 6, 1]), "cannot have the shape [-10, 6, 1]"),
    "an enormous shape": ("opcm", shaped([10**30] * 11), "cannot have the shape [1000"),
    "models of no role": (
        "covmerge",
        lambda c: [s.update(role="base") for s in c["sources"]],
        "of no model",
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_what_contradicts_itself_is_found_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    merge, edit, words = EDITS[what]
    folder = tampered(tmp_path, merge, edit)
    assert main(["verify", str(folder)]) == 4
    said = capsys.readouterr()
    assert words in said.err
    assert "sound" not in said.out
    assert "Traceback" not in said.err
    assert "internal error" not in said.err
    assert "\x1b" not in said.err
    new = mdm_kit.Addition(str(GOLDEN / "m3"), name="new")
    with pytest.raises(IntegrityError):
        mdm_kit.add(folder, tmp_path / "out", [new], sources={"base": str(GOLDEN / "base")})
    assert not (tmp_path / "out").exists()


ONLY_PLANNED: dict[str, tuple[str, Edit, str]] = {
    "ranks of more maps": (
        "opcm-less",
        put("tensors", UP, "ranks", value=[[0, 2], [0, 1]]),
        "1 linear maps, found 2",
    ),
    "a norm that does not count": (
        "opcm-less",
        and_follow(put("tensors", NORM, "counts", value=False)),
        "whether it counts",
    ),
    "a head that counts": (
        "covmerge-less",
        and_follow(put("tensors", HEAD, "counts", value=True)),
        "whether it counts",
    ),
}


@pytest.mark.parametrize("what", ONLY_PLANNED)
def test_what_only_a_plan_can_know_is_refused_by_it(tmp_path: Path, what: str) -> None:
    merge, edit, words = ONLY_PLANNED[what]
    folder = tampered(tmp_path, merge, edit)
    assert mdm_kit.verify(folder).faults == ()
    base = {"base": str(GOLDEN / "base")}
    with pytest.raises(IntegrityError, match=words):
        mdm_kit.add(folder, tmp_path / "out", [mdm_kit.Addition(str(GOLDEN / "m3"))], sources=base)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("merge", ["opcm", "opcm-less", "covmerge", "covmerge-less"])
def test_what_was_only_sealed_anew_is_sound(tmp_path: Path, merge: str) -> None:
    folder = tampered(tmp_path, merge, lambda _: None)
    assert mdm_kit.verify(folder).faults == ()


@pytest.mark.parametrize(
    ("merge", "edit", "words"),
    [
        ("covmerge", and_follow(of_tensor(NORM, "energies", 1, 1.5)), f"{NORM}: its energies"),
        ("opcm", put("tensors", UP, "ranks", 0, 1, value=3), f"{UP}: its ranks"),
    ],
)
def test_what_only_the_models_know_is_found_by_making_it_again(
    tmp_path: Path, merge: str, edit: Edit, words: str
) -> None:
    folder = tampered(tmp_path, merge, edit)
    places = {name: str(GOLDEN / name) for name in ("base", "m1", "m2", "m3")}
    assert mdm_kit.verify(folder).faults == ()
    (fault,) = mdm_kit.verify(folder, deep=True, sources=places).faults
    assert words in fault
