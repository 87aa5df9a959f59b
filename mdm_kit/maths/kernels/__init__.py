"""Sources of the CPU kernels, for numba. Only `maths.native` imports them, and only to compile."""
