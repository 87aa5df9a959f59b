"""Building the demo's family: repeatable, whole or not at all, and never over other files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from mdm_kit.demo import family as family_module
from mdm_kit.demo.family import STAMP, build_family
from mdm_kit.demo.skills import answers, score
from mdm_kit.demo.training import Settings
from mdm_kit.errors import OutputExists

TINY = Settings(base_steps=4, skill_steps=1, rows=4, hidden=32, layers=1)


def silent(line: str) -> None:
    """Say nothing."""


def files(folder):
    """Return every file's bytes under `folder`, by relative path."""
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_family(tmp_path_factory.mktemp("demo") / "models", silent, TINY)


@pytest.fixture
def folder(tiny, tmp_path):
    """A copy of the tiny family that a test may harm."""
    copy = tmp_path / "models"
    for name, content in files(tiny.base.parent).items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    return copy


def test_importing_the_demo_imports_no_torch():
    code = (
        "import sys, mdm_kit.demo.family, mdm_kit.demo.recipe; "
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_model_is_an_ordinary_folder(tiny):
    for model in (tiny.base, *(skill.folder for skill in tiny.skills)):
        assert {f.name for f in model.iterdir()} == {
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        }
        assert model.is_absolute()


def test_fine_tunes_share_everything_but_weights_with_the_base(tiny):
    base = files(tiny.base)
    for skill in tiny.skills:
        changed = [
            str(name) for name, content in files(skill.folder).items() if base[name] != content
        ]
        assert changed == ["model.safetensors"]


def test_a_second_build_has_the_same_bytes(tiny, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(1234)
    try:
        again = build_family(tmp_path / "elsewhere", silent, TINY)
    finally:
        torch.set_num_threads(threads)
    assert files(again.base.parent) == files(tiny.base.parent)


def test_torch_is_handed_back_as_it_was_found(tmp_path, tiny):
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    logging = transformers.utils.logging
    bars = logging.is_progress_bar_enabled()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            build_family(tmp_path / "models", silent, TINY)
            score(tiny.base, tiny.tasks)
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() is torch.float64
        assert torch.get_num_threads() == 1
        assert torch.equal(torch.get_rng_state(), random_state)
        assert logging.is_progress_bar_enabled() == bars
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)


def test_a_finished_family_is_used_again(folder, tiny, monkeypatch):
    monkeypatch.setattr(family_module, "_train", pytest.fail)
    lines: list[str] = []
    family = build_family(folder, lines.append, TINY)
    assert lines == [f"using the models in {folder}"]
    assert [skill.name for skill in family.skills] == ["upper", "roman", "date"]


@pytest.mark.parametrize("harm", ["settings", "version", "weights", "missing", "stamp"])
def test_anything_else_is_built_again(folder, tiny, harm):
    settings = replace(TINY, seed=1) if harm == "settings" else TINY
    weights, stamp = folder / "roman" / "model.safetensors", folder / STAMP
    if harm == "version":
        old = json.loads(stamp.read_text())
        old["identity"]["libraries"]["torch"] = "1.0"
        stamp.write_text(json.dumps(old))
    elif harm == "weights":
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "missing":
        weights.unlink()
    elif harm == "stamp":
        stamp.write_text('{"identity": 3}')
    build_family(folder, silent, settings)
    assert (files(folder) == files(tiny.base.parent)) is (harm != "settings")
    assert [entry.name for entry in folder.parent.iterdir()] == ["models"]


def interrupt(line: str) -> None:
    """Stop where the last skill has been trained and two models are on disk."""
    if line.startswith("date"):
        raise KeyboardInterrupt


def test_an_interrupted_build_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build_family(tmp_path / "models", interrupt, TINY)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_rebuild_leaves_the_old_family(folder):
    before = files(folder)
    with pytest.raises(KeyboardInterrupt):
        build_family(folder, interrupt, replace(TINY, seed=1))
    assert files(folder) == before
    assert [entry.name for entry in folder.parent.iterdir()] == ["models"]


def test_a_rename_that_fails_brings_the_old_family_back(folder, monkeypatch):
    before, rename = files(folder), Path.rename

    def refusing(self, target):
        if self.name == "new":
            raise PermissionError(13, "not now", str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(PermissionError):
        build_family(folder, silent, replace(TINY, seed=1))
    assert files(folder) == before


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "models").mkdir()
    assert build_family(tmp_path / "models", silent, TINY).base.is_dir()


def test_a_strange_folder_is_refused(tmp_path):
    (tmp_path / "base").mkdir()  # the demo's own name, and yet no stamp beside it
    with pytest.raises(OutputExists, match="holds base, which the demo did not make"):
        build_family(tmp_path, silent, TINY)


def test_a_family_with_other_files_beside_it_is_not_replaced(folder):
    (folder / "merged").mkdir()
    with pytest.raises(OutputExists, match="holds merged"):
        build_family(folder, silent, replace(TINY, seed=1))


def test_a_file_is_refused(tmp_path):
    (tmp_path / "models").write_text("mine")
    with pytest.raises(OutputExists, match="is a file"):
        build_family(tmp_path / "models", silent, TINY)


def test_an_untrained_family_knows_nothing(tiny):
    assert score(tiny.base, tiny.tasks) == {"upper": 0.0, "roman": 0.0, "date": 0.0}


def test_an_answer_is_text_without_special_tokens(tiny):
    (answer,) = answers(tiny.base, ["upper jump ="])
    assert "<|" not in answer
