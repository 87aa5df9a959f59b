"""Compiled kernels: kept where only we can write, loaded without the compiler, never damaged.

A tiny kernel stands for the real ones, which take the compiler seconds each.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mdm_kit.maths import native as module

if TYPE_CHECKING:
    from collections.abc import Callable

TINY = """
import numpy as np
from mdm_kit.maths.kernels.jit import array_at

def add(a: int, b: int) -> int:
    return a + b

def multiply(a: int, b: int) -> int:
    return a * b

def total(address: int, n: int) -> int:
    x = array_at(address, n, np.int64)
    s = 0
    for j in range(n):
        s += x[j]
    return s

def allocates(address: int, n: int) -> int:
    x = np.zeros(n, np.int64)
    given = array_at(address, n, np.int64)
    for j in range(n):
        x[given[j]] += 1
    return x.max()

def raises(a: int, b: int) -> int:
    if b == 0:
        raise ValueError("no")
    return a // b
"""

BEFORE = """
import sys
import mdm_kit.maths.kernels as kernels
from mdm_kit.maths import native as module
from pathlib import Path

here = Path(sys.argv[1])
kernels.__path__.append(str(here))
module._folders = lambda: iter([here / "first", here / "second"])
"""
"""Every script begins with it: more kernels, and two folders to keep object files in."""

ADD = "print(module.native('tiny', 'add', 2)(20, 3), 'numba' in sys.modules)"


@dataclass(frozen=True)
class Stored:
    """The sealed object file of `add`, its name, and a forgery that multiplies instead."""

    name: str
    data: bytes
    forged: bytes

    @property
    def symbol(self) -> str:
        return self.name.partition("-")[0]


def sealed(code: bytes) -> bytes:
    return code + hashlib.sha256(code).digest()


@pytest.fixture(scope="session")
def add(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    here = tmp_path_factory.mktemp("kernels")
    (here / "tiny.py").write_text(TINY)
    code = """
from mdm_kit.maths.kernels.compiling import compiled
module.native("tiny", "add", 2)
(here / "forged").write_bytes(compiled("tiny", "multiply", "mdm_kit_tiny_add"))
"""
    run(here, code)
    (path,) = (here / "first").iterdir()
    return Stored(path.name, path.read_bytes(), sealed((here / "forged").read_bytes()))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


def run(here: Path, code: str) -> str:
    """Run a script in a new process, whose home is new too, and return what it printed."""
    env = os.environ | {"HOME": str(here), "PYTHONDONTWRITEBYTECODE": "1"}
    env.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-c", BEFORE + code, str(here)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def keep(folder: Path, name: str, data: bytes, mode: int = 0o600) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_object_files_are_sealed(add: Stored) -> None:
    assert add.symbol == "mdm_kit_tiny_add"
    assert add.data == sealed(add.data[:-32])


def test_later_process_loads_without_the_compiler(here: Path, add: Stored) -> None:
    for folder in ("first", "second"):
        (here / folder).mkdir()
    path = keep(here / "second", add.name, add.data)
    assert run(here, ADD) == "23 False\n"
    assert not any((here / "first").iterdir())
    assert path.read_bytes() == add.data


def test_real_kernels_load_without_the_compiler() -> None:
    """The doors as a merge uses them; a first process may have to compile."""
    code = """
import ctypes, sys
from mdm_kit.maths.fold import fold
from mdm_kit.maths.gram import gram_blocks
x = (ctypes.c_float * 3)(1, 2, 3)
zero, out = (ctypes.c_float * 3)(), (ctypes.c_float * 3)()
product = ctypes.c_double()
zero_x = [ctypes.addressof(zero), ctypes.addressof(x)]
assert fold(zero_x, ["F32"] * 2, [2.0], base=True, wide=False, n=3,
            out=ctypes.addressof(out), out_dtype="F32")
gram_blocks(zero_x, ["F32"] * 2, known=0, n=3, wide=False, exact=True,
            out=ctypes.addressof(product))
print(list(out), product.value, "numba" in sys.modules)
"""
    for _ in range(2):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[2.0, 4.0, 6.0] 14.0 False\n"


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "one bit": flipped,
    "cut short": lambda data: data[:-40],
    "shorter than its seal": lambda data: data[:31],
    "empty": lambda data: data[:0],
    "the seal of nothing": lambda data: sealed(data[:0]),
    "unsealed": lambda data: data[:-32],
}


def test_damaged_object_file_is_never_returned(
    here: Path, add: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_folders", lambda: iter([here / "first", here / "second"]))
    for damage in DAMAGES.values():
        path = keep(here / "first", add.name, damage(add.data))
        assert not module._stored(add.symbol)
        path.unlink()
        keep(here / "first", add.name, add.data)
        assert module._stored(add.symbol) == add.data[:-32]


def test_damaged_object_file_is_compiled_anew_and_replaced(here: Path, add: Stored) -> None:
    path = keep(here / "first", add.name, flipped(add.data))
    assert run(here, ADD) == "23 True\n"
    data = path.read_bytes()
    assert data == sealed(data[:-32])
    assert [p.name for p in here.glob("first/*")] == [add.name]
    assert run(here, ADD) == "23 False\n"


def test_what_others_can_write_is_not_run(here: Path, add: Stored) -> None:
    keep(here / "first", add.name, add.forged)
    assert run(here, ADD) == "60 False\n", "the forgery must work where it is trusted"
    (here / "first").chmod(0o777)
    writable = keep(here / "second", add.name, add.forged, 0o666)
    assert run(here, ADD) == "23 True\n"
    assert (
        here / "first" / add.name
    ).read_bytes() == add.forged  # left alone: not ours to write in
    assert writable.read_bytes() != add.forged
    assert writable.stat().st_mode & 0o777 == 0o600
    assert run(here, ADD) == "23 False\n"


@pytest.mark.parametrize(
    ("folder_mode", "file_mode"),
    [(0o777, 0o600), (0o775, 0o600), (0o1777, 0o600), (0o700, 0o666), (0o700, 0o660)],
)
def test_permissions_that_are_not_trusted(
    here: Path,
    add: Stored,
    monkeypatch: pytest.MonkeyPatch,
    folder_mode: int,
    file_mode: int,
) -> None:
    monkeypatch.setattr(module, "_folders", lambda: iter([here / "first"]))
    path = keep(here / "first", add.name, add.data, file_mode)
    path.parent.chmod(folder_mode)
    assert module._stored(add.symbol) is None
    path.chmod(0o600)
    path.parent.chmod(0o700)
    assert module._stored(add.symbol) is not None


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives away")
def test_files_and_folders_of_other_users_are_not_trusted(
    here: Path, add: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_folders", lambda: iter([here / "first"]))
    path = keep(here / "first", add.name, add.data)
    for given in (path, path.parent):
        os.chown(given, 12345, 12345)
        assert module._stored(add.symbol) is None
        os.chown(given, 0, 0)


def test_compiles_in_memory_where_nothing_can_be_written(here: Path) -> None:
    """A folder below a file can no more be made by root than by anybody."""
    (here / "first").write_bytes(b"")
    (here / "second").mkdir()
    (here / "second").chmod(0o777)
    assert run(here, ADD) == "23 True\n"
    assert (here / "first").read_bytes() == b""
    assert not any((here / "second").iterdir())


def test_kernels_that_need_a_runtime_are_refused(here: Path) -> None:
    """Their object file would call into a library that later processes do not load."""
    code = """
from mdm_kit.maths.kernels.compiling import compiled
assert compiled("tiny", "total", "good")
for function in ("allocates", "raises"):
    try:
        compiled("tiny", function, "bad")
    except AssertionError as error:
        print(error)
"""
    allocates, raises = run(here, code).splitlines()
    assert allocates.startswith("tiny.allocates allocates or raises: it calls ")
    assert "NRT_" in allocates
    assert raises.startswith("tiny.raises allocates or raises: it calls ")


def test_folders_are_beside_the_sources_and_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beside = Path(module.__file__).with_name("kernels") / "__pycache__"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert list(module._folders()) == [beside, Path("/xdg/mdm_kit/kernels")]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/someone")
    assert list(module._folders()) == [beside, Path("/someone/.cache/mdm_kit/kernels")]
