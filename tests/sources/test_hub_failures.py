"""Failures no server on loopback can play: full disks, caches of others, Xet, and the waiting."""

from __future__ import annotations

import errno

import hf_xet
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from mdm_kit.errors import RoomError, SourceError
from mdm_kit.sources.hub_failures import patiently, told_by_hub


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "no space", "/home/me/x"), RoomError, "hf cache"),
        (OSError(errno.EDQUOT, "quota", "/home/me/x"), RoomError, "HF_HOME"),
        (PermissionError(errno.EACCES, "denied", "/home/me/x"), SourceError, "may not be written"),
        (OSError("Consistency check failed"), SourceError, "broke off"),
        (RuntimeError("Data processing error at https://cas"), SourceError, "broke off"),
        (hf_xet.XetAuthenticationError("https://cas?token=x"), SourceError, "hf auth login"),
        (ConnectionError("https://host/?token=x"), SourceError, "cannot be reached"),
        (OfflineModeIsEnabled("https://host"), SourceError, "HF_HUB_OFFLINE is set"),
        (LocalEntryNotFoundError("https://host"), SourceError, "HF_HUB_OFFLINE is set"),
    ],
)
def test_told(error: Exception, kind: type, words: str) -> None:
    told = told_by_hub(error, "m", "org/name", "main")
    assert type(told) is kind
    assert words in str(told)
    assert "org/name" in str(told)
    assert not any(secret in str(told) for secret in ("/home", "https://cas", "host", "token="))


def test_cause_of_a_missing_entry_is_what_is_told() -> None:
    error = LocalEntryNotFoundError("x")
    error.__cause__ = ConnectionError("y")
    assert "cannot be reached" in str(told_by_hub(error, "m", "org/name", "main"))


@pytest.mark.parametrize("error", [TypeError("a bug"), KeyError("a bug"), RecursionError("a bug")])
def test_a_bug_is_not_dressed_up_as_the_hub(error: Exception) -> None:
    assert told_by_hub(error, "m", "org/name", "main") is None


def test_only_what_may_pass_is_tried_again() -> None:
    calls: list[int] = []

    def bug() -> None:
        calls.append(1)
        raise TypeError

    with pytest.raises(TypeError):
        patiently(bug, waits=(0, 0))
    assert len(calls) == 1


def test_tried_as_often_as_there_are_waits() -> None:
    class NetworkError(Exception):
        """By this name the client's HTTP library knows a lost connection."""

    calls: list[int] = []

    def lost() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise NetworkError
        return "there"

    assert patiently(lost, waits=(0, 0)) == "there"
    calls.clear()
    with pytest.raises(NetworkError):
        patiently(lost, waits=(0,))
    assert len(calls) == 2
