"""Loans: a tensor's bytes at an address, for as long as a kernel needs them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


class Loan:
    """`nbytes` bytes at `address`, to be read only, until `release`."""

    __slots__ = ("_release", "address", "nbytes")

    def __init__(self, address: int, nbytes: int, release: Callable[[], None]) -> None:
        """Lend what `release` takes back."""
        self.address = address
        self.nbytes = nbytes
        self._release = release

    def release(self) -> None:
        """Give the bytes back; the address means nothing any more. Call it once."""
        self._release()

    def view(self) -> memoryview:
        """Return the bytes, valid as long as the loan."""
        return memoryview((ctypes.c_ubyte * self.nbytes).from_address(self.address)).cast("B")


class Buffers:
    """Blocks of memory to read into, used again and again; safe from several threads."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._free: list[bytearray] = []

    def lend(self, nbytes: int) -> tuple[Loan, memoryview]:
        """Return a loan of a block and the view to fill it through."""
        block = self._taken(nbytes)
        address = ctypes.addressof(ctypes.c_char.from_buffer(block))
        return Loan(address, nbytes, lambda: self._free.append(block)), memoryview(block)[:nbytes]

    def _taken(self, nbytes: int) -> bytearray:
        try:
            block = self._free.pop()
        except IndexError:
            block = bytearray()
        return block if len(block) >= max(1, nbytes) else bytearray(max(1, nbytes))
