"""The processor kernels are compiled for: this one, with all it can do."""

from __future__ import annotations

import llvmlite.binding as llvm


def target_machine() -> llvm.TargetMachine:
    """Return LLVM's code generator for this processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=_features(), opt=3, jit=True, codemodel="jitdefault"
    )


def target_name() -> str:
    """Return triple, processor and features; code for one runs wherever they are the same."""
    return f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {_features()}"


def _features() -> str:
    return str(llvm.get_host_cpu_features().flatten())
