"""Compiles a kernel to an object file that needs nothing but the processor it was made for."""

from __future__ import annotations

import importlib
import inspect

import llvmlite.binding as llvm
from numba import cfunc, types

from mdm_kit.maths.kernels.jit import OPTIONS
from mdm_kit.maths.target import target_machine


def compiled(module: str, function: str, symbol: str) -> bytes:
    """Return an object file that defines `symbol`: a C function of int64s that returns an int64.

    `function` is a plain function of the kernel file `module`, all of whose parameters are int.
    Raises `AssertionError` where its code needs numba's runtime: it allocates, or may raise.
    """
    source = getattr(importlib.import_module(f"mdm_kit.maths.kernels.{module}"), function)
    n_parameters = len(inspect.signature(source).parameters)
    entry = cfunc(types.int64(*(types.int64,) * n_parameters), **OPTIONS)(source)
    code = llvm.parse_assembly(entry.inspect_llvm())
    machine = target_machine()
    for defined in code.functions:
        if defined.name == entry.native_name:
            defined.name = symbol
        elif not defined.is_declaration:
            defined.linkage = "internal"
    _optimise(code, machine)
    needed = [f.name for f in code.functions if f.is_declaration and not _is_builtin(f.name)]
    assert not needed, (  # noqa: S101 -- for whoever writes kernels
        f"{module}.{function} allocates or raises: it calls {', '.join(needed)}"
    )
    return bytes(machine.emit_object(code))


def _optimise(code: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    """Let LLVM see that nothing raises, now that all functions are together, and drop the rest."""
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(code, passes)


def _is_builtin(name: str) -> bool:
    return name.startswith("llvm.") or name in ("memset", "memcpy", "memmove")
