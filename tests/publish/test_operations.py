"""What is used of the Hub's client behind its back still means what it meant."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from huggingface_hub import HfApi

from mdm_kit.publish.bundle_files import BundleFile, of_bytes
from mdm_kit.publish.operations import adding, adding_stored, is_ignored, is_stored

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_known_digest_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    sha256 = hashlib.sha256(b"abc").hexdigest()
    operation = adding(BundleFile("a", 3, sha256, tmp_path / "a"))
    (tmp_path / "a").unlink()
    assert operation.upload_info.sha256.hex() == sha256
    assert operation.upload_info.size == 3
    assert not is_stored(operation)
    assert not is_ignored(operation)


def test_bytes_need_no_file() -> None:
    operation = adding(of_bytes("a", b"abc"))
    with operation.as_file() as file:
        assert file.read() == b"abc"


def test_what_is_stored_asks_nobody_and_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = hashlib.sha256(b"abc").hexdigest()
    operation = adding_stored("a.safetensors", 3, sha256)
    assert is_stored(operation)
    assert (operation.upload_info.size, operation.upload_info.sha256.hex()) == (3, sha256)
    # No server listens there: a request would fail.
    HfApi(endpoint="http://127.0.0.1:9").preupload_lfs_files("you/x", [operation])
