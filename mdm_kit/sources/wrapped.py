"""A source around another one: whatever it does not offer otherwise is the other's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from mdm_kit.sources.seam import Origin, Source, Standing
    from mdm_kit.sources.streams import Streams


class WrappedSource:
    """The part of `seam.Source` that goes to the source inside, `stored`."""

    def __init__(self, stored: Source, *, owned: bool) -> None:
        """Wrap `stored`, which is closed with this if it is `owned`."""
        self.stored = stored
        self._owned = owned

    @property
    def name(self) -> str:
        """The name the recipe gives the model."""
        return self.stored.name

    @property
    def is_far(self) -> bool:
        """Whether some bytes are fetched as they are read."""
        return self.stored.is_far

    def fetch_through(self, streams: Streams | None) -> None:
        """Read what is far through `streams`; other models are told by themselves."""
        self.stored.fetch_through(streams)

    def seen_digest(self, file: str) -> str | None:
        """Return the sha256 (hex) of a far file all of whose bytes came by, else None."""
        return self.stored.seen_digest(file)

    def file_digest(self, file: str) -> str:
        """Return the sha256 (hex) of a stored weight file."""
        return self.stored.file_digest(file)

    def side_files(self) -> tuple[str, ...]:
        """Return the model's side files."""
        return self.stored.side_files()

    def side_file(self, name: str) -> bytes | None:
        """Return a side file's bytes, as the model has it."""
        return self.stored.side_file(name)

    def side_digest(self, name: str) -> str | None:
        """Return a digest of a side file, as the model has it."""
        return self.stored.side_digest(name)

    def origin(self) -> Origin:
        """Return where the model lives."""
        return self.stored.origin()

    def standing(self) -> Standing | None:
        """Return what the Hub says of the model's repository."""
        return self.stored.standing()

    def stated_bases(self) -> tuple[str, ...]:
        """Return the models its card says it was made from."""
        return self.stored.stated_bases()

    def witness(self) -> str:
        """Return a digest that changes when the model changes on this machine."""
        return self.stored.witness()

    def fingerprint(self) -> str:
        """Return the identity of the model as it is stored."""
        return self.stored.fingerprint()

    def content_fingerprint(self) -> str:
        """Return what `fingerprint` is for a folder with the same weight files."""
        return self.stored.content_fingerprint()

    def close(self) -> None:
        """Close the model if it is owned."""
        if self._owned:
            self.stored.close()

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
