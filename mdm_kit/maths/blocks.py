"""Sizes every summation agrees on, free of imports."""

BLOCK = 65_536
"""Elements of a float64 partial sum, counted from a tensor's start."""
