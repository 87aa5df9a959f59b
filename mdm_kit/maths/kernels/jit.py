"""How kernels are written: arrays at addresses, no fastmath, no allocation, no exception.

A kernel is compiled once to an object file that later runs load without numba (`maths.native`).
So it must not need numba's runtime: it gets its memory from its caller, as addresses, and nothing
in it may raise. Without fastmath LLVM neither reorders sums nor fuses a product into an addition,
so every CPU gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj
from numpy.typing import NDArray

U16 = NDArray[np.uint16]
U32s = NDArray[np.uint32]
F32s = NDArray[np.float32]
F64s = NDArray[np.float64]
I64s = NDArray[np.int64]

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}


def kernel(function: F) -> F:
    """Compile a function that other kernels call."""
    return cast("F", njit(forceinline=True, **OPTIONS)(function))


def _array_at(typing: Any, address: Any, n: Any, dtype: Any) -> tuple[Any, Any]:
    array = types.Array(dtype.dtype, 1, "C")

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _array(context, builder, array, args[0], args[1])

    return array(types.int64, types.int64, dtype), code


def _bits_of(typing: Any, x: Any, dtype: Any) -> tuple[Any, Any]:
    array = types.Array(dtype.dtype, 1, "C")

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = context.make_array(signature.args[0])(context, builder, args[0])
        address = builder.ptrtoint(given.data, context.get_value_type(types.int64))
        (n,) = cgutils.unpack_tuple(builder, given.shape)  # type: ignore[no-untyped-call]
        return _array(context, builder, array, address, n)

    return array(x, dtype), code


def _array(context: Any, builder: Any, array: Any, address: Any, n: Any) -> Any:
    made = context.make_array(array)(context, builder)
    data = context.get_data_type(array.dtype)
    nbytes = context.get_constant(types.intp, context.get_abi_sizeof(data))
    arrayobj.populate_array(  # type: ignore[no-untyped-call]
        made,
        data=builder.inttoptr(address, data.as_pointer()),
        shape=[n],
        strides=[nbytes],
        itemsize=nbytes,
        meminfo=None,
    )
    return made._getvalue()  # noqa: SLF001 -- the way numba's own intrinsics end


array_at = cast("Callable[[int, int, type], NDArray[Any]]", intrinsic(_array_at))
"""Return the n numbers of a dtype at an address as a contiguous array, which owns nothing."""

bits_of = cast("Callable[[NDArray[Any], type], NDArray[Any]]", intrinsic(_bits_of))
"""Return the same memory as numbers of another dtype of the same width."""
