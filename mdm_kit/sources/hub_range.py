"""Some bytes of a file on the Hub, and never others by accident.

A proxy that ignores `Range` answers 200 and sends the file from its start; whoever does not look
gets the wrong bytes without an error. So the answer must be 206 with the very range asked for. A
200 is read only where the wanted bytes come at once, and then dropped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from mdm_kit.errors import SourceError
from mdm_kit.sources.whereabouts import at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

WHOLE_NBYTES = 1 << 20
"""From a server that sends the whole file, wanted bytes up to here are taken."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20})")


class WrongAnswer(SourceError):
    """An answer without the bytes asked for, none of which was taken; another may have them."""


class Response(Protocol):
    """What is used of the HTTP client's streamed response."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by name in any case."""

    def iter_raw(self) -> Iterator[bytes]:
        """Yield the body as it came over the wire."""


def range_header(begin: int, end: int) -> dict[str, str]:
    """Return the request headers that ask for bytes `begin` to `end` (exclusive), as they are."""
    return {"Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}


def receive(
    response: Response,
    into: memoryview,
    begin: int,
    size: int,
    *,
    source: str,
    file: str,
    got: Callable[[int], None],
) -> None:
    """Fill `into` with bytes from `begin` on of a file of `size` bytes from an answer's body.

    `got` is told how many bytes of `into` are right so far, so that a cut loses none of them.
    Raises `WrongAnswer` if the answer holds another range or the file another size, and whatever
    the client raises.
    """
    skip = _skip(response, source, file, (begin, begin + len(into)), size)
    whole, done = response.status_code == 200, 0
    for chunk in response.iter_raw():
        data = memoryview(chunk)[skip:]
        skip = max(0, skip - len(chunk))
        room = len(into) - done
        if len(data) > room and not whole:
            raise _other(source, file, f"{len(into):,} bytes", "more")
        into[done : done + len(data)] = data[:room]
        done += min(len(data), room)
        got(done)
        if whole and done == len(into):
            break  # a 206 is read to its end, or the connection could not be used again
    if done < len(into):
        raise _other(source, file, f"{len(into):,} bytes", f"{done:,}")


def _skip(response: Response, source: str, file: str, span: tuple[int, int], size: int) -> int:
    """Return how many bytes of the body come before the range asked for."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _other(source, file, "plain bytes", "a compressed answer")
    if response.status_code == 200 and (span[1] <= WHOLE_NBYTES or span == (0, size)):
        return span[0]
    found = response.headers.get("Content-Range", "none")
    match = _CONTENT_RANGE.fullmatch(found)
    wanted = (span[0], span[1] - 1, size)
    if response.status_code != 206 or match is None or tuple(map(int, match.groups())) != wanted:
        raise _other(
            source,
            file,
            f"bytes {wanted[0]}-{wanted[1]} of {size}",
            f"HTTP {response.status_code} with range {found[:80]}",
        )
    return 0


def _other(source: str, file: str, expected: str, found: str) -> WrongAnswer:
    return WrongAnswer(
        f"{at(source, file)}: expected {expected} from the Hub, found {found}; a proxy on the way "
        "may be at fault: try again, or get whole files with --download"
    )
