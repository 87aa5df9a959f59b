"""No path of this machine in anything that may be published."""

from __future__ import annotations

import json
from pathlib import Path

from families import ODD, fine_tuned, tensors, write_model

import mdm_kit
from mdm_kit.bundle.recipe_text import published_text
from mdm_kit.recipe import read_recipe_text

A, B = "a" * 64, "b" * 64


def test_folders_of_one_name_show_no_more_than_owner_and_name(tmp_path: Path) -> None:
    base = tensors(ODD, 0)
    for run in ("run1", "run2"):
        write_model(tmp_path / "alice" / run / "checkpoint-500", fine_tuned(base, len(run)))
    text = "merge_method: linear\nmodels:\n" + "".join(
        f"  - {{model: {tmp_path}/alice/{r}/checkpoint-500, parameters: {{weight: 1}}}}\n"
        for r in ("run1", "run2")
    )
    mdm_kit.merge(text, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        if path.name != ".mdm_local.json":
            assert b"alice" not in path.read_bytes(), path.name
    manifest = mdm_kit.Manifest.from_bytes((tmp_path / "out/mdm_manifest.json").read_bytes())
    assert [s.name for s in manifest.sources] == ["run1/checkpoint-500", "run2/checkpoint-500"]


def test_a_path_nested_in_the_config_is_dropped(tmp_path: Path) -> None:
    config = {"text_config": {"_name_or_path": "/home/alice/x", "torch_dtype": "float32"}}
    write_model(tmp_path / "m", tensors(ODD, 0), config=config)
    mdm_kit.merge(
        f"merge_method: passthrough\nmodels: [{{model: {tmp_path}/m}}]\n", tmp_path / "out"
    )
    written = json.loads((tmp_path / "out/config.json").read_text())
    assert written == {"text_config": {"torch_dtype": "float32"}}


def published(text: str, public: dict[str, str]) -> str:
    recipe = read_recipe_text(text).recipe
    assert recipe is not None
    return published_text(recipe, public)


def test_a_folder_that_is_part_of_another_name_is_left_alone() -> None:
    text = "merge_method: linear\nmodels:\n  - model: /mistral # /mistral, not /mistral-7b\n"
    text += "    parameters: {weight: [{filter: /mistral, value: 1}]}\n  - model: org/mistral-7b\n"
    got = published(
        text, {"/mistral": f"local:mistral@sha256:{A}", "org/mistral-7b": f"org/mistral-7b@{B}"}
    )
    assert f'model: "org/mistral-7b@{B}"' in got
    assert f"# local:mistral@sha256:{A}, not /mistral-7b" in got
    assert "filter: /mistral, value" in got


def test_a_comment_that_names_a_relative_folder_again() -> None:
    text = "merge_method: linear\nmodels:\n  - model: ./home/alice/c # was ./home/alice/c\n"
    assert "alice" not in published(text, {"./home/alice/c": f"local:c@sha256:{A}"})


def test_odd_folder_names_make_a_plain_reference(tmp_path: Path) -> None:
    write_model(tmp_path / "we\nird \\ name", tensors(ODD, 0))
    (tmp_path / "link").symlink_to(tmp_path / "we\nird \\ name")
    mdm_kit.merge(
        f"merge_method: passthrough\nmodels: [{{model: {tmp_path}/link}}]\n", tmp_path / "out"
    )
    manifest = mdm_kit.Manifest.from_bytes((tmp_path / "out/mdm_manifest.json").read_bytes())
    assert manifest.sources[0].reference.startswith("local:we_ird___name@sha256:")
