"""What the Hub's refusals mean to somebody who publishes, and what they can do.

No message holds a URL, a host, a token or the Hub's own text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mdm_kit.errors import MdmError, SourceError, UsageError
from mdm_kit.sources.hub_failures import names_of, status_of
from mdm_kit.words import shown

_UNREACHABLE = frozenset(
    {"HTTPError", "TransportError", "ConnectionError", "InvalidURL", "LocalEntryNotFoundError"}
)
LOGIN = "log in with `hf auth login`, with a token that may write"


@contextmanager
def told(repo: str) -> Iterator[None]:
    """Turn the client's exceptions inside the block into ours."""
    try:
        yield
    except MdmError:
        raise
    except Exception as error:
        meant = cause_of(error)
        told_error = told_by_push(meant, repo)
        if told_error is None:
            raise
        raise told_error from None


def cause_of(error: Exception) -> Exception:
    """Return what went wrong with an upload, which the client wraps in an error without a kind."""
    inner = error.__cause__
    if type(error) is RuntimeError and isinstance(inner, Exception):
        return cause_of(inner)
    return error


def told_by_push(error: Exception, repo: str) -> MdmError | None:
    """Return the error to raise in place of the client's, None for one that is not the Hub's."""
    names, where = names_of(error), f"the repository {shown(repo)}"
    if "LocalTokenNotFoundError" in names:
        return SourceError(f"nobody is logged in to the Hub; {LOGIN}")
    if "OfflineModeIsEnabled" in names:
        return offline()
    if "RepositoryNotFoundError" in names:
        return SourceError(
            f"{where}: the Hub has none that you may see. Check the spelling; if it is another's "
            f"private one, {LOGIN}"
        )
    if "RevisionNotFoundError" in names:
        return SourceError(f"{where}: the branch to publish to is gone; run the same command again")
    return _by_status(where, status_of(error)) or _by_kind(where, error, names)


def offline() -> SourceError:
    """Return the error for a push without a network that was asked for."""
    return SourceError(
        "expected to reach the Hub, and HF_HUB_OFFLINE is set; unset it to publish, or merge "
        "without --push"
    )


def no_right(repo: str, status: int) -> SourceError:
    """Return the error for a login that may not write."""
    return SourceError(
        f"the repository {shown(repo)}: your login may not write there (HTTP {status}); {LOGIN} to "
        "it, or name a repository of your own"
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
                f"{where}: your login may not write there (HTTP 403); {LOGIN} to it, or name a "
                "repository of your own"
            )
        case 413:
            return SourceError(
                f"{where}: the Hub takes no file or commit that large (HTTP 413); merge with a "
                "smaller --shard-size"
            )
        case 429:
            return SourceError(
                f"{where}: the Hub's rate limit is reached (HTTP 429); wait five minutes and run "
                "the same command again, it goes on from there"
            )
        case _ if status >= 500:
            return SourceError(
                f"{where}: the Hub is out of order (HTTP {status}); run the same command again "
                "later, it goes on from there"
            )
        case _:
            return SourceError(
                f"{where}: the Hub refused the request (HTTP {status}); run the same command "
                "again, and if that does not help check the repository's page"
            )


def _by_kind(where: str, error: Exception, names: frozenset[str]) -> MdmError | None:
    if isinstance(error, ValueError) and "metadata in README.md" in str(error):
        return UsageError(
            "README.md: the Hub does not accept its front matter, the lines between --- and ---; "
            "mend it, and push again"
        )
    if "XetAuthenticationError" in names:  # a PermissionError too
        return _by_status(where, 403)
    if isinstance(error, PermissionError):
        return SourceError(
            f"{where}: the Hugging Face cache may not be written; set HF_HOME to a folder of yours"
        )
    if names & _UNREACHABLE:
        return SourceError(
            f"{where}: the Hub cannot be reached. Check the connection and the proxy, and run the "
            "same command again; it goes on from there"
        )
    if names & {"JSONDecodeError", "KeyError"}:
        return _by_status(where, 502)  # an error page, or less than what was promised
    # hf_xet and the LFS batch have no class of their own for a transfer that failed.
    if type(error) in (RuntimeError, ValueError, OSError):
        return SourceError(
            f"{where}: an upload broke off; run the same command again, it goes on from there"
        )
    return None
