"""What every source does alike: headers read once, bounds checked, bytes digested."""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from mdm_kit.errors import MdmError, UsageError
from mdm_kit.sources.checkpoint import Layout, choose_layout, joined
from mdm_kit.sources.identity import fingerprint
from mdm_kit.sources.loan import Buffers
from mdm_kit.sources.safetensors_header import LENGTH_BYTES, Header, header_length, parse_header
from mdm_kit.sources.seam import Checkpoint, CheckpointFile, Origin, Standing
from mdm_kit.sources.shard_index import MAX_INDEX_BYTES, check_shards, parse_index
from mdm_kit.sources.side_files import MAX_SIDE_FILE_BYTES, allowed, is_side_file
from mdm_kit.sources.stated_bases import CARD, MAX_CARD_BYTES, stated_bases
from mdm_kit.sources.whereabouts import at
from mdm_kit.words import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from mdm_kit.sources.loan import Loan
    from mdm_kit.sources.streams import Streams
    from mdm_kit.words import TensorInfo

LEND_NBYTES = 1 << 17
"""Fewer bytes are read: a copy of them costs less than the calls that hold and free pages."""
DIGEST_BUFFER_BYTES = 4 * 1024 * 1024
"""Large enough that sha256, not the system call, sets the pace; small beside any tensor budget."""


class StoredSource(ABC):
    """A model stored as safetensors; subclasses say where its bytes are. See `seam.Source`."""

    def __init__(self, name: str) -> None:
        """Take the name the recipe gives the model; read nothing."""
        self._name = name
        self._lock = threading.Lock()
        self._checkpoint: Checkpoint | None = None
        self._buffers = Buffers()

    @abstractmethod
    def _names(self) -> Iterable[str]:
        """Return the model's file names, those in subfolders with `/`."""

    @abstractmethod
    def _small_file(self, name: str, limit: int) -> bytes:
        """Return all bytes of a file; raise `IntegrityError` if there are more than `limit`."""

    @abstractmethod
    def _weight_file(self, file: str) -> tuple[CheckpointFile, Header]:
        """Return a weight file's facts and its checked header."""

    @abstractmethod
    def _read_at(self, file: str, view: memoryview, offset: int) -> None:
        """Fill `view` with a weight file's bytes from `offset` on."""

    def _lend_at(self, file: str, offset: int, nbytes: int) -> Loan | None:  # noqa: ARG002
        """Lend a weight file's bytes where they lie, None where they must be read."""
        return None

    @abstractmethod
    def origin(self) -> Origin:
        """Return where the model lives."""

    def standing(self) -> Standing | None:
        """Return what the Hub says of the model's repository, None for a model that has none."""
        return None

    def stated_bases(self) -> tuple[str, ...]:
        """Return the repositories that the model's card says it was made from."""
        standing = self.standing()
        if standing is not None:
            return standing.base_models
        try:
            if CARD not in self._names():
                return ()
            return stated_bases(self._small_file(CARD, MAX_CARD_BYTES).decode(errors="replace"))
        except MdmError:  # whatever is wrong with a card, the model may be well
            return ()

    @property
    def is_far(self) -> bool:
        """Whether some weights are not on this machine and are fetched as they are read."""
        return False

    def fetch_through(self, streams: Streams | None) -> None:  # noqa: B027 -- nothing is far
        """Read what is far through `streams` from now on."""

    def expect(self, info: TensorInfo, start: int, nbytes: int) -> None:
        """Announce a `lend` or `read`, so that what is far is fetched ahead."""
        self._expect_at(info.file, self._offset(info, start, nbytes), nbytes)

    def _expect_at(self, file: str, offset: int, nbytes: int) -> None:  # noqa: B027
        """Announce that a range of a weight file will be read."""

    def seen_digest(self, file: str) -> str | None:  # noqa: ARG002
        """Return the sha256 (hex) of a far file all of whose bytes came by, else None."""
        return None

    @abstractmethod
    def witness(self) -> str:
        """Return a digest that changes when this source changes on this machine."""

    @abstractmethod
    def close(self) -> None:
        """Close every file."""

    @property
    def name(self) -> str:
        """The name the recipe gives the model."""
        return self._name

    def headers(self) -> Checkpoint:
        """Return every header, read once. No weight is downloaded or read."""
        with self._lock:
            if self._checkpoint is None:
                self._checkpoint = self._survey()
            return self._checkpoint

    def _survey(self) -> Checkpoint:
        present = frozenset(name for name in self._names() if "/" not in name)
        layout = self._layout(present)
        if layout.index is None:
            return joined([self._weight_file(layout.single or "")])
        text = self._small_file(layout.index, MAX_INDEX_BYTES)
        index = parse_index(self.name, layout.index, text)
        parts = {file: self._weight_file(file) for file in self._shards(index.files, present)}
        check_shards(self.name, index, {file: header for file, (_, header) in parts.items()})
        return joined(list(parts.values()))

    def _layout(self, present: frozenset[str]) -> Layout:
        """Return where the weights are among the names at the top level."""
        return choose_layout(self.name, present, self.stated_bases)

    def _shards(self, wanted: tuple[str, ...], present: frozenset[str]) -> list[str]:
        """Return the shards to read headers of; the absent ones are reported with the rest."""
        return [file for file in wanted if file in present]

    def read(
        self, info: TensorInfo, into: memoryview | bytearray | None = None, start: int = 0
    ) -> memoryview:
        """Fill `into` with the tensor's bytes from byte `start` on and return a view of it."""
        if into is None:
            into = bytearray(max(0, info.nbytes - start))
        view = memoryview(into).cast("B")
        self._read_at(info.file, view, self._offset(info, start, len(view)))
        return view

    def lend(self, info: TensorInfo, start: int, nbytes: int) -> Loan:
        """Return the tensor's bytes from byte `start` on where they lie, or read."""
        offset = self._offset(info, start, nbytes)
        if nbytes >= LEND_NBYTES and offset % max(1, DTYPES[info.dtype].bits // 8) == 0:
            lent = self._lend_at(info.file, offset, nbytes)
            if lent is not None:
                return lent
        loan, view = self._buffers.lend(nbytes)
        try:
            self._read_at(info.file, view, offset)
        except BaseException:
            loan.release()
            raise
        return loan

    def _offset(self, info: TensorInfo, start: int, nbytes: int) -> int:
        """Return where a range of a tensor begins in its file; refuse one that is not there."""
        known = self.headers().tensors.get(info.name)
        if known is None or (known.file, known.span) != (info.file, info.span):
            raise UsageError(
                f"{at(self.name, info.file, info.name)}: not a tensor of this model; "
                "read only what headers() returned"
            )
        if start < 0 or start + nbytes > info.nbytes:
            raise UsageError(
                f"{at(self.name, info.file, info.name)}: expected a range within its "
                f"{info.nbytes:,} bytes, found {nbytes:,} bytes from byte {start:,}"
            )
        return info.span[0] + start

    def side_files(self) -> tuple[str, ...]:
        """Return the names of the configuration, tokenizer and template files, sorted."""
        return tuple(sorted(name for name in self._names() if is_side_file(name)))

    def side_file(self, name: str) -> bytes | None:
        """Return a side file's bytes, None if the model has none of that name."""
        if allowed(name) not in tuple(self._names()):
            return None
        return self._small_file(name, MAX_SIDE_FILE_BYTES)

    def side_digest(self, name: str) -> str | None:
        """Return the sha256 (hex) of a side file, None if the model has none of that name."""
        data = self.side_file(name)
        return None if data is None else hashlib.sha256(data).hexdigest()

    def fingerprint(self) -> str:
        """Return `sha256:...`, a cheap content identity; an identity, not a proof."""
        return self.content_fingerprint()

    def content_fingerprint(self) -> str:
        """Return the fingerprint of the weight files' content, wherever they are."""
        return fingerprint(self.headers().files, self._read_at)

    def file_digest(self, file: str) -> str:
        """Return the sha256 (hex) of all bytes of a weight file."""
        sizes = {f.name: f.nbytes for f in self.headers().files}
        if file not in sizes:
            raise UsageError(f"{at(self.name, file)}: not a weight file of this model")
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(min(DIGEST_BUFFER_BYTES, sizes[file])))
        parts = [
            (offset, min(len(buffer), sizes[file] - offset))
            for offset in range(0, sizes[file], DIGEST_BUFFER_BYTES)
        ]
        for offset, nbytes in parts:
            self._expect_at(file, offset, nbytes)
        for offset, nbytes in parts:
            view = buffer[:nbytes]
            self._read_at(file, view, offset)
            digest.update(view)
        return digest.hexdigest()

    def _described(
        self, file: str, size: int, *, sha256: str | None = None, in_cache: bool = True
    ) -> tuple[CheckpointFile, Header]:
        """Return a file's facts and header, read through `_read_at`."""
        first = bytearray(min(LENGTH_BYTES, size))
        self._read_at(file, memoryview(first), 0)
        prefix = bytearray(LENGTH_BYTES + header_length(self.name, file, bytes(first), size))
        self._read_at(file, memoryview(prefix), 0)
        header = parse_header(self.name, file, bytes(prefix), size)
        facts = CheckpointFile(file, size, header.nbytes, header.sha256, sha256, in_cache)
        return facts, header

    def __enter__(self) -> Self:
        """Return the source itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the source."""
        self.close()
