"""A model in memory: a real source for tests, with every check a file would meet."""

from __future__ import annotations

import ctypes
import hashlib
from typing import TYPE_CHECKING, Self

from mdm_kit.errors import IntegrityError, UsageError
from mdm_kit.sources.checkpoint import SINGLE
from mdm_kit.sources.header_writing import written_header
from mdm_kit.sources.identity import digest_of
from mdm_kit.sources.loan import Loan
from mdm_kit.sources.seam import CheckpointFile, Origin
from mdm_kit.sources.side_files import allowed
from mdm_kit.sources.stored import StoredSource
from mdm_kit.sources.whereabouts import at
from mdm_kit.words import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from mdm_kit.sources.safetensors_header import Header

_BY_TORCH_NAME = {dtype.torch_name: dtype for dtype in DTYPES.values() if dtype.bits >= 8}


class MemorySource(StoredSource):
    """A model of one safetensors file that was never written."""

    def __init__(
        self,
        name: str,
        tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]],
        side_files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Take tensors as (safetensors dtype, shape, little-endian bytes) and side files by name.

        A dtype or shape that does not fit its bytes is refused by `headers()`, as in a file.
        Raises `UsageError` for a side file off the allow-list.
        """
        super().__init__(name)
        self._sides = {allowed(file): data for file, data in (side_files or {}).items()}
        header = written_header((t, d, shape, len(data)) for t, (d, shape, data) in tensors.items())
        self._file = b"".join((header, *(data for _, _, data in tensors.values())))
        self._closed = False

    @classmethod
    def from_tensors(
        cls,
        name: str,
        tensors: Mapping[str, torch.Tensor],
        side_files: Mapping[str, bytes] | None = None,
    ) -> Self:
        """Return a source that holds the torch tensors' values."""
        import torch

        raw: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
        for tensor, value in tensors.items():
            dtype = _BY_TORCH_NAME.get(str(value.dtype).removeprefix("torch."))
            if dtype is None:
                raise UsageError(
                    f"{at(name, tensor=tensor)}: {value.dtype} has no safetensors name"
                )
            flat = value.detach().cpu().contiguous().reshape(-1)
            data = flat.view(torch.uint8).numpy().tobytes()
            raw[tensor] = (dtype.name, tuple(value.shape), data)
        return cls(name, raw, side_files)

    def origin(self) -> Origin:
        """Return that the model lives in memory only."""
        return Origin("memory")

    def witness(self) -> str:
        """Return a digest of all bytes, side files included."""
        sides = {file: hashlib.sha256(data).hexdigest() for file, data in self._sides.items()}
        return digest_of([hashlib.sha256(self._file).hexdigest(), sides])

    def close(self) -> None:
        """Refuse reads from now on."""
        self._closed = True

    def _names(self) -> list[str]:
        return [SINGLE, *self._sides]

    def _small_file(self, name: str, limit: int) -> bytes:
        data = self._sides[name]
        if len(data) > limit:
            raise IntegrityError(
                f"{at(self.name, name)}: expected at most {limit:,} bytes, found {len(data):,}"
            )
        return data

    def _weight_file(self, file: str) -> tuple[CheckpointFile, Header]:
        return self._described(file, len(self._file))

    def _read_at(self, file: str, view: memoryview, offset: int) -> None:
        if self._closed:
            raise UsageError(f"{at(self.name, file)} was closed; open it again to read")
        view[:] = memoryview(self._file)[offset : offset + len(view)]

    def _lend_at(self, file: str, offset: int, nbytes: int) -> Loan | None:  # noqa: ARG002
        if self._closed:
            return None  # reading it says why
        address = ctypes.cast(ctypes.c_char_p(self._file), ctypes.c_void_p).value
        assert address is not None  # noqa: S101 -- bytes lie somewhere
        return Loan(address + offset, nbytes, lambda: None)
