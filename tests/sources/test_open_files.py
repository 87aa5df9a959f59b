"""Descriptors: few at a time, reopened when needed, a changed file noticed."""

from __future__ import annotations

import errno
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from mdm_kit.errors import IntegrityError, RoomError, SourceError
from mdm_kit.sources.open_files import OpenFiles, told

if TYPE_CHECKING:
    from pathlib import Path

N_FILES = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(N_FILES):
        (tmp_path / str(i)).write_bytes(bytes([i]) * 1000)
    return tmp_path


def read(files: OpenFiles, name: str, offset: int = 0, length: int = 10) -> bytes:
    into = bytearray(length)
    files.read_into(name, memoryview(into), offset)
    return bytes(into)


def test_no_more_open_than_the_limit(folder: Path) -> None:
    files = OpenFiles("m", lambda name: folder / name, limit=3)
    for i in (*range(N_FILES), *range(N_FILES)):
        assert read(files, str(i)) == bytes([i]) * 10
        assert len(files._open) <= 3
    files.close()
    assert not files._open


def test_few_descriptors_and_many_threads(folder: Path) -> None:
    files = OpenFiles("m", lambda name: folder / name, limit=2)
    wanted = [str(i % N_FILES) for i in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: read(files, name), wanted))
    assert found == [bytes([int(name)]) * 10 for name in wanted]
    assert len(files._open) <= 2
    files.close()


def test_descriptors_in_use_outlive_the_limit_only_while_in_use(folder: Path) -> None:
    files = OpenFiles("m", lambda name: folder / name, limit=1)
    held = [files._entry(name) for name in "123"]
    assert [os.pread(entry.fd, 1, 0) for entry in held] == [b"\1", b"\2", b"\3"]
    for entry in held:
        files._done(entry)
    assert len(files._open) == 1
    four = files._entry("4")
    files.close()
    assert os.pread(four.fd, 1, 0) == b"\4"  # a read under way is not cut off
    files._done(four)
    assert not files._open


def test_file_replaced_before_it_is_opened_again(folder: Path) -> None:
    files = OpenFiles("m", lambda name: folder / name, limit=1)
    read(files, "1")
    read(files, "2")
    (folder / "new").write_bytes(b"x" * 1000)
    (folder / "new").replace(folder / "1")
    with pytest.raises(IntegrityError, match="changed meanwhile"):
        read(files, "1")
    files.close()


def test_past_the_end(folder: Path) -> None:
    files = OpenFiles("m", lambda name: folder / name)
    with pytest.raises(IntegrityError, match=r"expected 10 bytes from byte 995.*after 5"):
        read(files, "1", offset=995)
    files.close()


def test_out_of_descriptors_idle_ones_are_given_up(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OpenFiles("m", lambda name: folder / name)
    for i in range(N_FILES - 1):
        read(files, str(i))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(e.fd for e in files._open.values()), hard))
        assert read(files, str(N_FILES - 1)) == bytes([N_FILES - 1]) * 10
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files.close()


def test_out_of_descriptors_and_none_idle(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OpenFiles("m", lambda name: folder / name)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        with pytest.raises(RoomError, match="ulimit -n"):
            read(files, "1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_path_does_not_hold_up_other_files(folder: Path) -> None:
    """Finding a path may be a download."""
    go, waiting = threading.Event(), threading.Event()

    def path_of(name: str) -> Path:
        if name == "1":
            waiting.set()
            assert go.wait(30)
        return folder / name

    files = OpenFiles("m", path_of)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(read, files, "1")
        assert waiting.wait(30)
        assert read(files, "2") == bytes([2]) * 10
        go.set()
        assert slow.result() == bytes([1]) * 10
    files.close()


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EIO, SourceError, "the disk could not read it"),
        (errno.ENOENT, SourceError, "found none"),
        (errno.EACCES, SourceError, "may not read"),
        (errno.EISDIR, SourceError, "regular file"),
        (errno.ENFILE, RoomError, "ulimit"),
        (errno.ESTALE, SourceError, "stale"),
    ],
)
def test_what_the_system_says_is_told(number: int, kind: type, words: str) -> None:
    error = told(OSError(number, os.strerror(number), "/secret/path"), "m", "f")
    assert isinstance(error, kind)
    assert words in str(error)
    assert "secret" not in str(error)
