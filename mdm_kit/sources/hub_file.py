"""A file on the Hub that is read in parts, without ever lying on this machine.

The Hub answers for a large file with a signed address on another host. It is asked for once and
used, without the token, until it expires.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from mdm_kit.errors import IntegrityError, MdmError, SourceError
from mdm_kit.sources.hub_failures import Patience
from mdm_kit.sources.hub_range import WrongAnswer, range_header, receive
from mdm_kit.sources.whereabouts import at
from mdm_kit.sources.whole_digest import WholeDigest

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 30.0
"""For connecting and for each next byte: three times the client's own, for slow gateways."""
_HOPS = 5
"""Redirects within the Hub, as for a repository that was renamed."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_EXPIRED = frozenset({400, 401, 403, 404, 410})
"""What stores answer to a signed address that is no longer good."""
_EXPIRED_PLACE = ""


@dataclass(frozen=True, slots=True)
class Client:
    """What is used of the Hub's own client: its HTTP session, the headers with the login, errors.

    `check` raises for an answer that reports an error; `told` returns ours for an exception of the
    client, None for one that is not the Hub's.
    """

    session: Any
    headers: Mapping[str, str]
    check: Callable[[Any], object]
    told: Callable[[Exception], MdmError | None]


class Stopped(Exception):
    """Nobody wants the bytes any more."""


class HubFile:
    """One file at one commit, of a known size; several threads may read it.

    `sha256` (hex) is what the Hub declares, None where it declares nothing.
    """

    def __init__(
        self, client: Client, url: str, *, source: str, file: str, size: int, sha256: str | None
    ) -> None:
        """Ask nobody yet; `url` is the Hub's own address for the file at a commit."""
        self._client = client
        self._url = url
        self._source, self._file = source, file
        self.size = size
        self.sha256 = sha256
        self._digest = WholeDigest(size)
        self._signed: str | None = None

    @property
    def digest(self) -> str | None:
        """The sha256 (hex) of the file, where all of it came by in order; else None."""
        return self._digest.whole()

    def arrived(self, begin: int, data: memoryview) -> None:
        """Take bytes that were fetched into the file's digest."""
        if self.sha256 is not None:
            self._digest.take(begin, data)

    def fetch(
        self, begin: int, into: memoryview, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Fill `into` with the bytes from `begin` on, going on after cuts from the last good byte.

        Raises `SourceError` for what does not pass by itself, `IntegrityError` where the Hub has
        another file than it declared.
        """
        done = 0

        def got(n: int) -> None:
            nonlocal done
            done = start + n
            if stopped():
                raise Stopped

        patience = Patience()
        while done < len(into):
            start = done
            try:
                self._once(begin + start, into[start:], got)
            except Stopped:
                raise
            except Exception as error:  # noqa: BLE001 -- what stays is raised, told
                if not patience.again(error, progress=done > start, stopped=stopped):
                    raise self._told(error) from None
                if stopped():
                    raise Stopped from None

    def _told(self, error: Exception) -> Exception:
        """Return what is raised for an exception that stays: it names this model and file."""
        if isinstance(error, WrongAnswer):
            return SourceError(str(error))
        return error if isinstance(error, MdmError) else self._client.told(error) or error

    def _once(self, begin: int, into: memoryview, got: Callable[[int], None]) -> None:
        """Ask the address that is known, the Hub where none is or it expired; take the answer."""
        url, fresh = self._signed or self._url, False
        for _ in range(_HOPS):
            place = self._ask(url, begin, into, got)
            if place is None:
                return
            if place == _EXPIRED_PLACE:
                if self._signed == url:  # else another thread has a newer one
                    self._signed = None
                if fresh:
                    break
                url = self._signed or self._url
                continue
            url = urljoin(url, place)
            if self._is_elsewhere(url):
                self._signed, fresh = url, True
        raise WrongAnswer(
            f"{at(self._source, self._file)}: expected the file's bytes at the address the Hub "
            "gave, found that it is refused there; a proxy on the way may be at fault: try again, "
            "or get whole files with --download"
        )

    def _is_elsewhere(self, url: str) -> bool:
        """Whether an address is not the Hub's own: the login stays away from it."""
        return _host(url) != _host(self._url)

    def _ask(
        self,
        url: str,
        begin: int,
        into: memoryview,
        got: Callable[[int], None],
    ) -> str | None:
        """Fill `into` from an address; return another one where that is the answer."""
        elsewhere = self._is_elsewhere(url)
        headers = {} if elsewhere else self._client.headers
        asked = {**headers, **range_header(begin, begin + len(into))}
        with self._client.session.stream(
            "GET", url, headers=asked, timeout=TIMEOUT_S, follow_redirects=False
        ) as response:
            if url == self._url:  # a store's ETag may be a digest of another kind
                self._same_file(response)
            if response.status_code in _REDIRECTS:
                response.read()
                return str(response.headers.get("Location", ""))
            if elsewhere and response.status_code in _EXPIRED:
                response.read()
                return _EXPIRED_PLACE
            if response.is_error:
                response.read()  # the client looks for the reason in it
            self._client.check(response)
            receive(response, into, begin, self.size, source=self._source, file=self._file, got=got)
        return None

    def _same_file(self, response: Any) -> None:
        """Raise where the Hub says that it has another file than it declared."""
        for name in ("X-Linked-ETag", "ETag"):
            found = str(response.headers.get(name, "")).removeprefix("W/").strip('"')
            if self.sha256 is not None and len(found) == len(self.sha256):
                if found != self.sha256:
                    raise IntegrityError(
                        f"{at(self._source, self._file)}: expected the file with the sha256 "
                        f"{self.sha256} the Hub declares, found that it offers {found}; "
                        "a mirror may be out of date, try again or elsewhere"
                    )
                return


def _host(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
