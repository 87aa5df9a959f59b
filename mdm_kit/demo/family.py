"""Builds the demo's family of models once, and knows it again."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdm_kit.demo.calm import THREADS, calm_torch
from mdm_kit.demo.skills import Task, english, tasks
from mdm_kit.demo.training import (
    Settings,
    byte_tokenizer,
    new_model,
    save,
    train_base,
    train_skill,
)
from mdm_kit.errors import OutputExists

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1
"""Raised whenever the questions, the models or the training change."""

STAMP = "mdm_demo.json"
"""The file that says a folder holds a finished family, and which."""

BASE = "base"

_LIBRARIES = ("safetensors", "tokenizers", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Skill:
    """A fine-tune of the base: its folder, and the task it was trained on."""

    task: Task
    folder: Path

    @property
    def name(self) -> str:
        """The task's name, which is also the folder's."""
        return self.task.name


@dataclass(frozen=True, slots=True)
class Family:
    """A base model's folder and its fine-tunes; all paths are absolute."""

    base: Path
    skills: tuple[Skill, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The skills' tasks, in the skills' order."""
        return tuple(skill.task for skill in self.skills)


def build_family(
    folder: Path, progress: Callable[[str], None], settings: Settings | None = None
) -> Family:
    """Return the family in `folder`, trained now unless it is there already.

    The same library versions on the same machine give the same bytes. `folder` becomes whole or
    stays as it was; `progress` is given one line at a time. A family of other versions or settings,
    or one that was damaged, is replaced; raises OutputExists where `folder` holds anything else.
    """
    settings = settings or Settings()
    folder = folder.resolve()
    text = english()
    family = _family(folder, tasks(text))
    identity = _identity(settings, text)
    stamp = _read_stamp(folder)
    if stamp.get("identity") == identity and stamp.get("files") == _digests(folder):
        progress(f"using the models in {folder}")
        return family
    _refuse_strangers(folder, family, stamped=bool(stamp))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as room:
        new = Path(room) / "new"
        _train(_family(new, family.tasks), text, settings, progress)
        whole = {"identity": identity, "files": _digests(new)}
        (new / STAMP).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        _swap(new, folder, Path(room) / "old")
    return family


def _family(folder: Path, all_tasks: tuple[Task, ...]) -> Family:
    return Family(folder / BASE, tuple(Skill(task, folder / task.name) for task in all_tasks))


def _train(family: Family, text: str, settings: Settings, progress: Callable[[str], None]) -> None:
    """Train base and fine-tunes and save each in its folder."""
    with calm_torch(settings.seed):
        tokenizer = byte_tokenizer()
        model = new_model(tokenizer, settings)
        train_base(model, tokenizer, text, family.tasks, settings, progress)
        save(model, tokenizer, family.base)
        base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for skill in family.skills:
            model.load_state_dict(base)
            train_skill(model, tokenizer, skill.task, settings, progress)
            save(model, tokenizer, skill.folder)


def _swap(new: Path, folder: Path, old: Path) -> None:
    """Put `new` in `folder`'s place and what was there in `old`'s; undo it if that fails."""
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def _identity(settings: Settings, text: str) -> dict[str, Any]:
    """Return what decides the weights, as plain JSON."""
    return {
        "format": FORMAT,
        "settings": asdict(settings),
        "threads": THREADS,
        "text": hashlib.sha256(text.encode()).hexdigest(),
        "machine": platform.machine(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def _read_stamp(folder: Path) -> dict[str, Any]:
    """Return the folder's stamp; empty where there is none or it is no JSON object."""
    with suppress(OSError, ValueError):
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        if isinstance(stamp, dict):
            return stamp
    return {}


def _digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file under `folder` but the stamp, by POSIX path."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f != folder / STAMP)
    return {
        f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files
    }


def _refuse_strangers(folder: Path, family: Family, *, stamped: bool) -> None:
    """Raise OutputExists where replacing `folder` could cost somebody their own files."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputExists(f"{folder} is a file; name another folder for the demo's models")
    own = {STAMP, BASE, *(skill.name for skill in family.skills)} if stamped else set[str]()
    strange = sorted(entry.name for entry in folder.iterdir() if entry.name not in own)
    if strange:
        raise OutputExists(
            f"{folder} holds {strange[0]}, which the demo did not make; "
            "name an empty or a new folder for its models"
        )
