"""A text model and the language part of a larger model are one; a tied head is its embedding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import read_model, write_model
from merged_families import promised
from reference import dense
from towered import EMBEDDING, HEAD, INSIDE, TEXT, VISION, Model, write_tied, write_towers

import mdm_kit
from mdm_kit.words import Level


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Model]]:
    root = tmp_path_factory.mktemp("towers")
    return root, write_towers(root)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Model]]:
    root = tmp_path_factory.mktemp("heads")
    return root, write_tied(root)


def recipe(
    root: Path, base: str, names: list[str], method: str = "task_arithmetic", more: str = ""
) -> str:
    weight = "" if method == "opcm" else ", parameters: {weight: 0.5}"
    models = "".join(f"  - {{model: {root}/{n}, name: {n}{weight}}}\n" for n in names)
    return f"merge_method: {method}\nbase_model: {root}/{base}\nmodels:\n{models}{more}\n"


def notes(text: str) -> list[str]:
    with mdm_kit.plan(text) as plan:
        assert not [f for f in plan.findings if f.level is Level.ERROR]
        return [f.message for f in plan.findings]


def of_text(model: Model) -> Model:
    """The language part under the text model's names, whichever model it is."""
    found = {n.removeprefix(INSIDE): t for n, t in model.items() if n not in VISION}
    assert found.keys() == TEXT.keys()
    return found


def check_text(got: Model, models: dict[str, Model], base: str, names: list[str]) -> None:
    parts = {name: of_text(models[name]) for name in (base, *names)}
    for name, t in of_text(got).items():
        own = [parts[m][name] for m in names]
        want = dense.task_arithmetic(parts[base][name], own, [0.5] * len(names))
        torch.testing.assert_close(t.double(), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("names", [["text1"], ["text1", "text2"], ["vlm1", "text1"]])
def test_text_models_go_into_the_language_part(
    towers: tuple[Path, dict[str, Model]], tmp_path: Path, names: list[str]
) -> None:
    root, models = towers
    text = recipe(root, "vlm0", names)
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")
    assert got.keys() == models["vlm0"].keys()
    check_text(got, models, "vlm0", names)
    for name in VISION:
        assert torch.equal(got[name], models["vlm0"][name])
    assert (tmp_path / "out" / "preprocessor_config.json").exists()
    found = notes(text)
    assert any("text1 is found in base under other names: behind 'language_model.'" in f
               for f in found)  # fmt: skip
    assert any(f"{len(VISION)} tensors of base that text1 has no part of" in f for f in found)
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound


@pytest.mark.parametrize("names", [["vlm1"], ["text1", "vlm2", "vlm1"]])
def test_of_larger_models_the_language_part_is_taken(
    towers: tuple[Path, dict[str, Model]], tmp_path: Path, names: list[str]
) -> None:
    root, models = towers
    text = recipe(root, "text0", names)
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")
    check_text(got, models, "text0", names)
    assert got.keys() == TEXT.keys()
    assert any(f"{len(VISION)} tensors of vlm1 left out" in f for f in notes(text))
    with mdm_kit.plan(text) as plan:
        unused = {s["name"]: s.get("unused") for s in plan.to_json()["sources"]}
    assert set(unused["vlm1"] or ()) == set(VISION)
    assert unused["base"] is None
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound


def test_what_is_copied_has_the_dtype_of_the_result(
    towers: tuple[Path, dict[str, Model]], tmp_path: Path
) -> None:
    root, models = towers
    mdm_kit.merge(recipe(root, "vlm0", ["text1"], more="out_dtype: float16"), tmp_path / "out")
    got = read_model(tmp_path / "out")
    for name in VISION:
        want = models["vlm0"][name]
        want = want.half() if want.dtype.is_floating_point else want
        assert torch.equal(got[name], want)
    assert {t.dtype for t in got.values()} == {torch.float16, torch.int64}


def _always(root: Path, out: Path, base: str, names: list[str], method: str, more: str) -> None:
    mdm_kit.merge(recipe(root, base, names, method, more), out)


@pytest.mark.parametrize(
    ("first", "method", "keep"),
    [
        (["vlm1", "text2"], "task_arithmetic", "deltas"),
        (["vlm1", "text2"], "mdm_oc", "references"),
        (["text1", "text2"], "ties", "deltas"),
        (["vlm1", "vlm2"], "opcm", "state"),
        (["text1", "text2"], "covmerge", "state"),
        (["vlm1", "text2"], "opcm", "deltas"),
    ],
)
def test_edits_leave_no_trace(
    towers: tuple[Path, dict[str, Model]],
    tmp_path: Path,
    first: list[str],
    method: str,
    keep: str,
) -> None:
    """A text model among models of two towers takes the other tower out of the merge."""
    root, _ = towers
    more = f"ledger: {{keep: {keep}}}"
    last = "text1" if "text1" not in first else "vlm1"
    _always(root, tmp_path / "two", "vlm0", first, method, more)
    weight = None if method == "opcm" else 0.5
    new = mdm_kit.Addition(str(root / last), name=last, weight=weight)
    mdm_kit.add(tmp_path / "two", tmp_path / "three", [new])
    _always(root, tmp_path / "always", "vlm0", [*first, last], method, more)
    assert promised(tmp_path / "three") == promised(tmp_path / "always")
    mdm_kit.unmerge(tmp_path / "three", tmp_path / "without", [first[0]])
    _always(root, tmp_path / "never", "vlm0", [first[1], last], method, more)
    assert promised(tmp_path / "without") == promised(tmp_path / "never")
    mdm_kit.unmerge(tmp_path / "three", tmp_path / "back", [last])
    assert promised(tmp_path / "back") == promised(tmp_path / "two")
    assert mdm_kit.verify(tmp_path / "without", deep=True).sound


@pytest.mark.parametrize("mode", ["exact", "subtract"])
@pytest.mark.parametrize("names", [["vlm1", "text2"]])
def test_patches_read_tensors_under_their_own_names(
    towers: tuple[Path, dict[str, Model]], tmp_path: Path, names: list[str], mode: str
) -> None:
    root, models = towers
    mdm_kit.merge(recipe(root, "vlm0", names, "mdm_oc"), tmp_path / "two")
    mdm_kit.unmerge(tmp_path / "two", tmp_path / "one", [names[1]], mode=mode)
    mdm_kit.merge(recipe(root, "vlm0", names[:1], "mdm_oc"), tmp_path / "never")
    got, want = read_model(tmp_path / "one"), read_model(tmp_path / "never")
    for name in TEXT:
        torch.testing.assert_close(got[INSIDE + name], want[INSIDE + name], rtol=0, atol=1e-6)
    for name in VISION:  # what the text model made the merge leave alone stays so
        assert torch.equal(got[name], models["vlm0"][name])
    assert mdm_kit.verify(tmp_path / "one", deep=mode == "subtract").sound


def test_a_layer_that_lacks_is_no_tower(
    towers: tuple[Path, dict[str, Model]], tmp_path: Path
) -> None:
    root, models = towers
    short = {n: t for n, t in models["text1"].items() if ".layers.1." not in n}
    write_model(tmp_path / "short", short)
    text = recipe(root, "vlm0", ["text1"]).replace(f"{root}/text1", f"{tmp_path}/short")
    with mdm_kit.plan(text) as plan:
        messages = [f.message for f in plan.findings if f.level is Level.ERROR]
    assert any("lacks" in m and "language_model.model.layers.1" in m for m in messages)


@pytest.mark.parametrize("base", ["open0", "tied0"])
@pytest.mark.parametrize("names", [["open1", "tied1"], ["tied1", "open2"], ["open1"], ["tied1"]])
def test_a_tied_head_is_read_from_its_embedding(
    heads: tuple[Path, dict[str, Model]], tmp_path: Path, base: str, names: list[str]
) -> None:
    root, models = heads
    mdm_kit.merge(recipe(root, base, names), tmp_path / "out")
    got = read_model(tmp_path / "out")
    has_head = any(n.startswith("open") for n in (base, *names))
    assert (HEAD in got) == has_head
    for name in got:
        own = [models[m].get(name, models[m][EMBEDDING]) for m in (base, *names)]
        want = dense.task_arithmetic(own[0], own[1:], [0.5] * len(names))
        torch.testing.assert_close(got[name].double(), want, rtol=1e-6, atol=1e-6)
    stated = json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"]
    equal = HEAD not in got or torch.equal(got[HEAD], got[EMBEDDING])
    assert stated == (base == "tied0" and equal)
    assert equal == (not any(n.startswith("open") for n in names))
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound


@pytest.mark.parametrize(
    ("base", "method"),
    [("open0", "mdm_oc"), ("tied0", "opcm"), ("tied0", "task_arithmetic"), ("tied0", "covmerge")],
)
def test_edits_of_tied_and_untied_models_leave_no_trace(
    heads: tuple[Path, dict[str, Model]], tmp_path: Path, base: str, method: str
) -> None:
    root, _ = heads
    more = f"ledger: {{keep: {'state' if method in ('opcm', 'covmerge') else 'deltas'}}}"
    _always(root, tmp_path / "two", base, ["tied1", "tied2"], method, more)
    weight = None if method == "opcm" else 0.5
    new = mdm_kit.Addition(str(root / "open1"), name="open1", weight=weight)
    mdm_kit.add(tmp_path / "two", tmp_path / "three", [new])
    _always(root, tmp_path / "always", base, ["tied1", "tied2", "open1"], method, more)
    assert promised(tmp_path / "three") == promised(tmp_path / "always")
    mdm_kit.unmerge(tmp_path / "three", tmp_path / "back", ["open1"])
    assert promised(tmp_path / "back") == promised(tmp_path / "two")


def test_a_head_that_is_not_tied_cannot_be_made_up(
    heads: tuple[Path, dict[str, Model]], tmp_path: Path
) -> None:
    root, models = heads
    write_model(tmp_path / "m", models["tied1"], config={"tie_word_embeddings": False})
    text = recipe(root, "open0", ["tied1"]).replace(f"{root}/tied1", f"{tmp_path}/m")
    with mdm_kit.plan(text) as plan:
        messages = [f.message for f in plan.findings if f.level is Level.ERROR]
    assert len(messages) == 1
    assert "lacks 1 of the 9 tensors of base: lm_head.weight" in messages[0]
