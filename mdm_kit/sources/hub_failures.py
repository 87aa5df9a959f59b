"""What the Hub's failures mean, which of them pass by themselves, and what a person can do.

Exceptions are told apart by the names of their classes: the client's HTTP library was renamed
between its versions (httpx, then httpx2), and neither is a dependency of ours. No message holds a
URL, a host or a token.
"""

from __future__ import annotations

import errno
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from mdm_kit.errors import MdmError, RoomError, SourceError
from mdm_kit.sources.hub_range import WrongAnswer
from mdm_kit.sources.whereabouts import at
from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

RETRY_WAITS_S: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
"""Seconds between tries; a Hub that is away for longer is reported, not waited for."""

MAX_RETRY_AFTER_S = 300.0
"""How long a server's own Retry-After is obeyed: the Hub's rate limits reset every 5 minutes."""

_NAP_S = 0.2
"""How long somebody who wants to stop may have to wait for one who waits."""

_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_PASSING_NAMES = frozenset({"TimeoutException", "NetworkError", "RemoteProtocolError"})


def patiently(call: Callable[[], T], waits: tuple[float, ...] | None = None) -> T:
    """Return what `call` returns, trying again after failures that may pass by themselves."""
    patience = Patience(waits)
    while True:
        try:
            return call()
        except Exception as error:
            if not patience.again(error):
                raise


class Patience:
    """How often something is tried again; what makes progress may go on for ever."""

    def __init__(self, waits: tuple[float, ...] | None = None) -> None:
        """Wait these seconds between tries, `RETRY_WAITS_S` if None, and then give up."""
        self._waits = RETRY_WAITS_S if waits is None else waits
        self._failed = 0

    def again(
        self,
        error: Exception,
        *,
        progress: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Wait before another try and return True; return False where none can help.

        Does not wait on once `stopped()`.
        """
        if progress:
            self._failed = 0
        if not is_passing(error) or self._failed == len(self._waits):
            return False
        wait = self._waits[self._failed]
        self._failed += 1
        until = time.monotonic() + max(wait, retry_after_s(error))
        while (left := until - time.monotonic()) > 0 and not stopped():
            time.sleep(min(left, _NAP_S))
        return True


def told_by_hub(error: Exception, source: str, repo_id: str, revision: str) -> MdmError | None:
    """Return the error to raise in place of the client's, None for one that is not the Hub's."""
    names, status, where = names_of(error), status_of(error), f"{at(source)}, {shown(repo_id)}"
    if "LocalEntryNotFoundError" in names and isinstance(error.__cause__, Exception):
        told = told_by_hub(error.__cause__, source, repo_id, revision)
        return told or _unreachable(where)
    if "GatedRepoError" in names:
        return SourceError(
            f"{where}: access is gated. Accept its conditions at https://huggingface.co/"
            f"{shown(repo_id)} and log in with `hf auth login`"
        )
    if "RepositoryNotFoundError" in names:
        return SourceError(
            f"{where}: no such folder here, and no such repository on the Hub that you may see. "
            "Check the spelling; if it is private, log in with `hf auth login`"
        )
    if "RevisionNotFoundError" in names:
        return SourceError(
            f"{where}: the repository has no branch, tag or commit '{shown(revision)}'. "
            f"Check the revision at https://huggingface.co/{shown(repo_id)}/commits/main"
        )
    if "EntryNotFoundError" in names and "LocalEntryNotFoundError" not in names:
        return SourceError(f"{where}: a file the repository lists is not there; try again later")
    if "OfflineModeIsEnabled" in names or "LocalEntryNotFoundError" in names:
        return not_cached(source, repo_id)
    return _by_status(where, status) or _by_kind(where, error, names)


def not_cached(source: str, repo_id: str, file: str | None = None) -> SourceError:
    """Return the error for something that is needed offline but was never downloaded."""
    wanted = f"'{shown(file)}' of {shown(repo_id)}" if file else shown(repo_id)
    return SourceError(
        f"{at(source)}: expected {wanted} in the Hugging Face cache, because HF_HUB_OFFLINE is "
        "set, found it is not there. Unset HF_HUB_OFFLINE, or download the model once with "
        f"`hf download {shown(repo_id)}`"
    )


def _by_status(where: str, status: int) -> SourceError | None:
    match status:
        case 0:
            return None
        case 401:
            return SourceError(
                f"{where}: the Hub does not accept your login (HTTP 401); renew it with "
                "`hf auth login`"
            )
        case 403:
            return SourceError(
                f"{where}: your login may not read this repository (HTTP 403); use a token that "
                "may, with `hf auth login`"
            )
        case 429:
            return SourceError(
                f"{where}: the Hub's rate limit is reached (HTTP 429); wait five minutes, or log "
                "in with `hf auth login` for a higher one"
            )
        case _ if status >= 500:
            return SourceError(
                f"{where}: the Hub is out of order (HTTP {status}); run the command again later"
            )
        case _:
            return SourceError(
                f"{where}: the Hub refused the request (HTTP {status}); check id and revision"
            )


def _by_kind(where: str, error: Exception, names: frozenset[str]) -> MdmError | None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RoomError(
            f"{where}: no room left in the Hugging Face cache; free some with `hf cache`, or set "
            "HF_HOME to a larger disk"
        )
    if "XetAuthenticationError" in names:  # a PermissionError too
        return _by_status(where, 401)
    if isinstance(error, PermissionError):
        return SourceError(
            f"{where}: the Hugging Face cache may not be written; set HF_HOME to a folder of yours"
        )
    if names & {"HTTPError", "TransportError", "ConnectionError", "InvalidURL"}:
        return _unreachable(where)
    # hf_xet has no class of its own for a transfer that failed.
    if names & {"OSError", "XetDownloadError", "FileMetadataError"} or type(error) is RuntimeError:
        return SourceError(
            f"{where}: the download broke off; run the same command again, it goes on from there"
        )
    return None


def _unreachable(where: str) -> SourceError:
    return SourceError(
        f"{where}: the Hub cannot be reached. Check the connection and the proxy; if the model was "
        "downloaded before, set HF_HUB_OFFLINE=1 to use the cache"
    )


def is_passing(error: Exception) -> bool:
    """Return whether the same request may well succeed a moment later."""
    if isinstance(error, WrongAnswer):
        return True
    return status_of(error) in _PASSING_STATUS or bool(names_of(error) & _PASSING_NAMES)


def names_of(error: BaseException) -> frozenset[str]:
    """Return the names of an error's class and of all it derives from."""
    return frozenset(kind.__name__ for kind in type(error).__mro__)


def status_of(error: Exception) -> int:
    """Return the HTTP status an error carries, 0 if it carries none."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status if isinstance(status, int) else 0


def retry_after_s(error: Exception) -> float:
    """Return how long the server asks to be left alone, in seconds; 0 if it does not say.

    It may give a date. No more than `MAX_RETRY_AFTER_S`.
    """
    headers = getattr(getattr(error, "response", None), "headers", {})
    text = str(headers.get("Retry-After", ""))
    if text.isdecimal():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        wait = parsedate_to_datetime(text) - datetime.now(UTC)
    except (TypeError, ValueError):
        return 0.0
    return min(max(0.0, wait.total_seconds()), MAX_RETRY_AFTER_S)
