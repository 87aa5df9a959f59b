"""Some bytes of a file on the Hub, and never all of it by accident.

A proxy that ignores `Range` answers 200 and sends the file from its start; whoever does not look
gets the wrong bytes without an error. So the answer must be 206 with the range asked for, or a 200
that is read up to the last byte wanted and then dropped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from mdm_kit.errors import IntegrityError
from mdm_kit.sources.whereabouts import at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

TIMEOUT_S = 30.0
"""For connecting and for each next byte: three times the client's own, for slow gateways."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20})")


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


class Session(Protocol):
    """What is used of the HTTP client."""

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout: float,
        follow_redirects: bool,
    ) -> AbstractContextManager[Any]:
        """Send a request; yield its response before the body is read."""


def fetch_range(
    session: Session,
    url: str,
    headers: Mapping[str, str],
    check: Callable[[Any], object],
    *,
    source: str,
    file: str,
    span: tuple[int, int],
    size: int,
) -> bytes:
    """Return bytes `span[0]` to `span[1]` (exclusive) of a file of `size` bytes.

    `check` raises for an error status. Raises `IntegrityError` if the answer is another range or
    the file another size.
    """
    begin, end = span
    asked = {**headers, "Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
    with session.stream(
        "GET", url, headers=asked, timeout=TIMEOUT_S, follow_redirects=True
    ) as response:
        check(response)
        skip = _skip(response, source, file, span, size)
        skip_rest = response.status_code == 200
        data = bytearray()
        wanted = skip + end - begin
        for chunk in response.iter_raw():
            data += chunk
            # A 206 is read to its end, or the connection could not be used again.
            if len(data) > wanted or (skip_rest and len(data) == wanted):
                break
    if len(data) < wanted or (len(data) > wanted and not skip_rest):
        raise _other(source, file, f"{wanted:,} bytes", f"{len(data):,}")
    return bytes(data[skip:wanted])


def _skip(response: Response, source: str, file: str, span: tuple[int, int], size: int) -> int:
    """Return how many bytes of the body come before the range asked for."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _other(source, file, "plain bytes", "a compressed answer")
    if response.status_code == 200:
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


def _other(source: str, file: str, expected: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"{at(source, file)}: expected {expected} from the Hub, found {found}; "
        "a proxy on the way may be at fault, try again or elsewhere"
    )
