"""Attack: a checkpoint that runs code when it is opened. It never is."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

import mdm_kit.sources
from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.sources import FolderSource


class Bomb:
    """Unpickling this makes a file, if anybody does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "file",
    [
        "pytorch_model.bin",
        "model.pt",
        "model.pth",
        "model.ckpt",
        "weights.pkl",
        "pytorch_model.bin.index.json",
        "pytorch_model-00001-of-00002.bin",
    ],
)
def test_refused_with_the_way_to_convert(tmp_path: Path, file: str) -> None:
    hit = tmp_path / "hit"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / file).write_bytes(pickle.dumps(Bomb(hit)))
    with pytest.raises(SourceError) as caught, FolderSource("victim", tmp_path / "model") as source:
        source.headers()
    message = str(caught.value)
    assert f"found only pickles ('{file}')" in message
    assert "AutoModelForCausalLM.from_pretrained(MODEL).save_pretrained(FOLDER)" in message
    assert caught.value.exit_code == 5
    assert not hit.exists()


def test_pickle_under_a_safetensors_name(tmp_path: Path) -> None:
    hit = tmp_path / "hit"
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Bomb(hit)))
    with pytest.raises(IntegrityError, match="not a safetensors file"):
        FolderSource("victim", tmp_path).headers()
    assert not hit.exists()


def test_pickle_beside_safetensors_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "hit")))
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with FolderSource("victim", tmp_path) as source:
        assert source.headers().tensors == {}
        assert source.side_files() == ()
    assert not (tmp_path / "hit").exists()


def test_nothing_in_the_room_can_unpickle() -> None:
    """No torch.load, no pickle: not behind a flag either."""
    room = Path(mdm_kit.sources.__file__).parent
    for file in room.glob("*.py"):
        text = file.read_text()
        assert "torch.load" not in text, file.name
        assert "import pickle" not in text, file.name
