"""From what a recipe says to a source, or to words that help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mdm_kit.errors import SourceError
from mdm_kit.sources import FolderSource, HubSource, open_source
from mdm_kit.words import AdapterRef, ModelRef


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("math", "code", "org/model"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "path", ["math", "./math", "~/math", "math/", "org/model", "./code/../math"]
)
def test_folder(here: Path, path: str) -> None:
    source = open_source(ModelRef(path), "x")
    assert isinstance(source, FolderSource)
    assert source.name == "x"
    assert Path(source.origin().path or "") == (here / path.replace("~", ".")).resolve()


def test_absolute_folder(here: Path) -> None:
    assert isinstance(open_source(ModelRef(str(here / "math")), "x"), FolderSource)


@pytest.mark.parametrize("path", ["gpt2", "org/other", "meta-llama/Llama-3.2-1B", "a/b.c_d-e"])
@pytest.mark.parametrize("revision", [None, "main", "v1.0", "refs/pr/3", "d04e592"])
def test_hub(here: Path, path: str, revision: str | None) -> None:
    assert isinstance(open_source(ModelRef(path, revision), "x"), HubSource)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("./mth", r"no such folder: './mth'. Did you mean './math'\?"),
        ("~/cod", r"Did you mean '~/code'\?"),
        ("./math-2/", r"Did you mean './math'\?"),
        ("a/b/c", r"no such folder: 'a/b/c'. Nor is there the folder it should lie in"),
        ("/nowhere/at/all", "no such folder"),
        ("..", None),
        ("../zzz", r"no such folder: '../zzz'. Check the path"),
        ("models\\math", "no such folder"),
        ("C:\\math", "no such folder"),
        ("org/modle/", r"Did you mean 'org/model'\?"),
        ("~nobody-of-that-name/x", "no such folder"),
        ("./" + "x" * 5000, "no such folder"),
        ("./a\0b", r"no such folder: './a\\x00b'"),
        ("./\x1b[31m", r"no such folder: './\\x1b\[31m'"),
        ("notes.txt", "found the file 'notes.txt'; give the folder"),
        ("bad..name", "expected a folder or a Hub id"),
        ("-org/name", "expected a folder or a Hub id"),
        ("org/na me", "expected a folder or a Hub id"),
        ("", "expected a folder or a Hub id"),
        ("örg/name", "expected a folder or a Hub id"),
        ("org/name.git", "expected a folder or a Hub id"),
    ],
)
def test_nothing_there(here: Path, path: str, words: str | None) -> None:
    if words is None:
        assert isinstance(open_source(ModelRef(path), "x"), FolderSource)
        return
    with pytest.raises(SourceError, match=words) as caught:
        open_source(ModelRef(path), "x")
    message = str(caught.value)
    assert "model 'x'" in message
    assert message.isprintable()
    assert str(here) not in message
    assert caught.value.exit_code == 5


def test_folder_with_a_revision(here: Path) -> None:
    with pytest.raises(SourceError, match=r"a folder has no revisions; remove '@v1'"):
        open_source(ModelRef("./math", "v1"), "x")


def test_adapter(here: Path) -> None:
    ref = ModelRef("math", adapter=AdapterRef("./nowhere"))
    with pytest.raises(SourceError, match=r"no such folder: './nowhere'"):
        open_source(ref, "x")
    ref = ModelRef("math", adapter=AdapterRef("math"))
    with (
        pytest.raises(SourceError, match="expected a LoRA adapter behind the '\\+'"),
        open_source(ref, "x") as source,
    ):
        source.headers()


@pytest.mark.parametrize(
    "ref",
    [
        ModelRef("local:math@sha256:" + "0" * 64),
        ModelRef("local:math", "sha256:" + "0" * 64),
        ModelRef("local:math"),
    ],
)
def test_folder_of_another_machine(here: Path, ref: ModelRef) -> None:
    with pytest.raises(SourceError, match="put the path of your copy"):
        open_source(ref, "x")


@pytest.mark.parametrize("revision", ["a..b", "a b", "-x", "x/", "a\nb", "x.lock", "@{", "a" * 300])
def test_revision_that_cannot_exist(here: Path, revision: str) -> None:
    with pytest.raises(SourceError, match="expected a branch, tag or commit"):
        open_source(ModelRef("org/other", revision), "x")


def test_the_room_is_light() -> None:
    """Neither torch nor the Hub's client is imported before it is needed."""
    code = (
        "import sys, mdm_kit.sources\n"
        "heavy = {'torch', 'numpy', 'transformers', 'huggingface_hub', 'safetensors'}\n"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
