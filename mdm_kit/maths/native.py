"""Kernels as machine code: compiled by numba once, loaded without it from then on.

Importing numba and its compiler takes longer than many merges; an object file loads in
milliseconds. Object files lie where Python keeps compiled modules, beside the kernels' sources, or
in the user's cache where that folder cannot be written. Their names hold a digest of everything
that decides their content: sources, compiler, processor.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding as llvm

from mdm_kit.maths.target import target_machine, target_name

SOURCES = Path(__file__).with_name("kernels")

Native = Callable[..., int]
"""A compiled kernel: takes ints (numbers and addresses), returns one, holds no interpreter lock."""

_engines: list[llvm.ExecutionEngine] = []
"""Owners of loaded code; it must outlive every function."""


@cache
def native(module: str, function: str, n_parameters: int) -> Native:
    """Return a function of `kernels/<module>.py` as machine code."""
    symbol = f"mdm_kit_{module}_{function}"
    code = _stored(symbol) or _compiled(module, function, symbol)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_int64,) * n_parameters)
    return prototype(engine.get_function_address(symbol))


def _compiled(module: str, function: str, symbol: str) -> bytes:
    from mdm_kit.maths.kernels.compiling import compiled

    code = compiled(module, function, symbol)
    for folder in _folders():
        with contextlib.suppress(OSError):
            _store(folder, symbol, code)
            break
    return code


def _stored(symbol: str) -> bytes | None:
    for folder in _folders():
        with contextlib.suppress(OSError):
            path = folder / f"{symbol}-{_digest()}.o"
            if _is_ours(folder) and _is_ours(path):
                data = path.read_bytes()
                code, seal = data[:-32], data[-32:]
                if hashlib.sha256(code).digest() == seal:
                    return code
    return None


def _store(folder: Path, symbol: str, code: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(folder)
    handle, name = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(code + hashlib.sha256(code).digest())
        Path(name).replace(folder / f"{symbol}-{_digest()}.o")
    except BaseException:
        Path(name).unlink()
        raise


def _is_ours(path: Path) -> bool:
    """Whether nobody else could have put machine code there."""
    if not hasattr(os, "getuid"):
        return path.exists()
    status = path.stat()
    return status.st_uid in (os.getuid(), 0) and not status.st_mode & 0o022


def _folders() -> Iterator[Path]:
    yield SOURCES / "__pycache__"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    yield Path(home) / "mdm_kit" / "kernels"


@cache
def _digest() -> str:
    digest = hashlib.sha256()
    made_by = [version("numba"), version("llvmlite"), version("numpy"), sys.version, target_name()]
    digest.update("\n".join(made_by).encode())
    shared = [SOURCES.with_name(name) for name in ("blocks.py", "layouts.py")]
    for source in sorted([*SOURCES.glob("*.py"), *shared]):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:32]
