"""The seam: what every source offers, be its bytes in a folder, on the Hub or in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from mdm_kit.sources.loan import Loan
    from mdm_kit.sources.streams import Streams
    from mdm_kit.words import TensorInfo


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """A weight file whose header was read.

    `nbytes` is the whole file, `header_nbytes` the bytes before the data (the length field
    included), `header_sha256` the hex digest of the header's JSON bytes. `sha256` is the digest the
    Hub declares for the file, None where nothing declares one; nobody has checked it. `in_cache`
    is true where reading needs no download.
    """

    name: str
    nbytes: int
    header_nbytes: int
    header_sha256: str
    sha256: str | None
    in_cache: bool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All headers of a model: its tensors by name (by file, then by offset) and its files.

    `metadata` holds the files' `__metadata__`; where two files disagree, the first one's value.
    """

    tensors: Mapping[str, TensorInfo]
    files: tuple[CheckpointFile, ...]
    metadata: Mapping[str, str]

    @property
    def nbytes(self) -> int:
        """How many bytes the weight files have together."""
        return sum(file.nbytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a source comes from; `path` is a real path and never leaves this machine.

    A model with an `adapter` on it comes from two places.
    """

    kind: Literal["hub", "folder", "memory", "kept", "stage"]
    repo: str | None = None
    commit: str | None = None
    path: str | None = None
    adapter: Origin | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What the Hub says of a model's repository at the commit that is read.

    `license`, `license_name`, `license_link` and `pipeline_tag` are what its card states, None
    where it states nothing. `gated` and `private` are the Hub's own word. All of it is a stranger's
    text. `known` is false where nobody could be asked: a cache without the Hub. `repo` is what the
    repository is called now, where the name it was asked for by is an old one; `base_models` are
    those the card says it was made from.
    """

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    pipeline_tag: str | None = None
    gated: bool = False
    private: bool = False
    known: bool = True
    repo: str | None = None
    base_models: tuple[str, ...] = ()


class Source(Protocol):
    """A model that can be read. Safe to use from several threads; close it, or use `with`."""

    @property
    def name(self) -> str:
        """The name the recipe gives the model."""

    def headers(self) -> Checkpoint:
        """Return every header, read once. No weight is downloaded or read.

        Raises `IntegrityError` if the files contradict themselves or one another, `SourceError` if
        they cannot be had.
        """

    def read(
        self,
        info: TensorInfo,
        into: memoryview | bytearray | None = None,
        start: int = 0,
    ) -> memoryview:
        """Fill `into` with the tensor's bytes from byte `start` on and return a view of it.

        Without `into`: the rest of the tensor, in a fresh buffer. `info` must come from
        `headers()`. Raises `UsageError` for a range outside the tensor, `IntegrityError` if the
        file is shorter than its header said, `SourceError` if it cannot be read.
        """

    def lend(self, info: TensorInfo, start: int, nbytes: int) -> Loan:
        """Return the tensor's bytes from byte `start` on where they lie, or read.

        Their address is a multiple of the dtype's size. Whoever gets a loan releases it, before the
        source is closed. Raises like `read`.
        """

    @property
    def is_far(self) -> bool:
        """Whether some weights are not on this machine and are fetched as they are read."""

    def fetch_through(self, streams: Streams | None) -> None:
        """Read what is far through `streams` from now on, what is announced there ahead of time."""

    def expect(self, info: TensorInfo, start: int, nbytes: int) -> None:
        """Announce a `lend` with these arguments, in the order of the calls to come."""

    def seen_digest(self, file: str) -> str | None:
        """Return the sha256 (hex) of a far weight file all of whose bytes came by, else None."""

    def side_files(self) -> tuple[str, ...]:
        """Return the names of the configuration, tokenizer and template files, sorted."""

    def side_file(self, name: str) -> bytes | None:
        """Return the bytes of a side file or of a licence, None if the model has none of that name.

        Raises `UsageError` for a name off the allow-list, `IntegrityError` for a link that leaves
        the folder or a file too large.
        """

    def side_digest(self, name: str) -> str | None:
        """Return a digest of a side file, None if the model has none of that name.

        Equal ones mean equal bytes; of a file on the Hub nothing is downloaded. Raises like
        `side_file`.
        """

    def origin(self) -> Origin:
        """Return where the model lives; asks the Hub for the commit the first time."""

    def standing(self) -> Standing | None:
        """Return what the Hub says of the model's repository, None for a model that has none."""

    def stated_bases(self) -> tuple[str, ...]:
        """Return the repositories that the model's card says it was made from."""

    def witness(self) -> str:
        """Return a digest that changes when this source changes on this machine."""

    def fingerprint(self) -> str:
        """Return `sha256:...`, a cheap content identity; an identity, not a proof.

        Hub: of repository and commit. Otherwise of names, sizes, headers and a few windows of the
        data, wherever the folder lies and whenever it was written.
        """

    def content_fingerprint(self) -> str:
        """Return what `fingerprint` is for a folder with the same weight files.

        Reads windows of the data, from the Hub as well.
        """

    def file_digest(self, file: str) -> str:
        """Return the sha256 (hex) of all bytes of a weight file, reading or downloading it."""

    def close(self) -> None:
        """Close every file; reading afterwards is an error. Closing twice is not."""

    def __enter__(self) -> Self:
        """Return the source itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the source."""
