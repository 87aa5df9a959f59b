"""Loans: the bytes a read would bring, wherever they lie, and a failure where a read would fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_kit.errors import IntegrityError, UsageError
from mdm_kit.sources import FolderSource, MemorySource
from mdm_kit.sources.open_files import OpenFiles
from mdm_kit.sources.stored import LEND_NBYTES, StoredSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mdm_kit.words import TensorInfo

linux = pytest.mark.skipif(sys.platform != "linux", reason="files are mapped on Linux only")

SPANS = {"a": ("BF16", 4096), "b": ("F32", 5 * LEND_NBYTES), "c": ("F64", 3 * LEND_NBYTES + 8)}
"""Tensors of a model: dtype and bytes, none a whole number of pages long at a page's start."""


def safetensors(spans: dict[str, tuple[str, int]], *, shift: int = 0) -> bytes:
    """Return a file of random tensors; its data begins `shift` bytes beyond a multiple of 8."""
    width = {"U8": 1, "BF16": 2, "F16": 2, "F32": 4, "F64": 8}
    ends = np.cumsum([0, *(nbytes for _, nbytes in spans.values())]).tolist()
    header = {
        name: {"dtype": dtype, "shape": [nbytes // width[dtype]], "data_offsets": list(span)}
        for (name, (dtype, nbytes)), span in zip(spans.items(), pairwise(ends), strict=True)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8 + shift)
    return len(text).to_bytes(8, "little") + text + np.random.default_rng(1).bytes(ends[-1])


def write(folder: Path, data: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.safetensors"
    path.write_bytes(data)
    return path


def lent(source: StoredSource, info: TensorInfo, start: int, nbytes: int) -> bytes:
    """Return a copy of what a loan shows."""
    loan = source.lend(info, start, nbytes)
    try:
        assert loan.nbytes == nbytes
        return bytes(loan.view())
    finally:
        loan.release()


def read(source: StoredSource, info: TensorInfo, start: int, nbytes: int) -> bytes:
    return bytes(source.read(info, bytearray(nbytes), start))


def in_memory(file: bytes) -> MemorySource:
    """Return a source of the very bytes of a file."""
    source = MemorySource("m", {})
    source._file = file
    return source


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[StoredSource]]:
    file = safetensors(SPANS)
    folder = tmp_path_factory.mktemp("model")
    write(folder, file)
    with FolderSource("f", folder) as stored, in_memory(file) as held:
        yield [stored, held]


@settings(deadline=None)
@given(data=st.data())
def test_any_range_is_what_a_read_brings(both: list[StoredSource], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(SPANS)))
    whole = SPANS[name][1]
    sizes = (0, 1, LEND_NBYTES - 1, LEND_NBYTES, LEND_NBYTES + 1, whole)
    nbytes = data.draw(st.sampled_from([s for s in sizes if s <= whole]) | st.integers(0, whole))
    start = data.draw(st.sampled_from([0, whole - nbytes]) | st.integers(0, whole - nbytes))
    for source in both:
        info = source.headers().tensors[name]
        assert lent(source, info, start, nbytes) == read(source, info, start, nbytes)


@pytest.mark.parametrize("shift", range(8))
def test_data_that_begins_anywhere(tmp_path: Path, shift: int) -> None:
    """The format lets a header have any length; a kernel wants numbers at multiples of theirs."""
    file = safetensors(SPANS, shift=shift)
    write(tmp_path, file)
    with FolderSource("f", tmp_path) as stored, in_memory(file) as held:
        for source in (stored, held):
            for info in source.headers().tensors.values():
                width = info.nbytes // info.n_elements
                loan = source.lend(info, 0, info.nbytes)
                assert loan.address % width == 0
                assert bytes(loan.view()) == file[info.span[0] : info.span[1]]
                loan.release()


def test_range_out_of_the_tensor_is_refused(both: list[StoredSource]) -> None:
    for source in both:
        info = source.headers().tensors["b"]
        for start, nbytes in ((-4, LEND_NBYTES), (4, info.nbytes), (info.nbytes, 1)):
            with pytest.raises(UsageError, match="expected a range within"):
                source.lend(info, start, nbytes)


def test_loans_held_together_do_not_disturb_each_other(both: list[StoredSource]) -> None:
    """Ranges that overlap, share pages or are the same; given back in another order."""
    starts = [0, 0, 4, 4096, LEND_NBYTES - 4, LEND_NBYTES, 100]
    for source in both:
        info = source.headers().tensors["b"]
        for nbytes in (64, LEND_NBYTES + 8):
            loans = [source.lend(info, start, nbytes) for start in starts]
            wanted = [read(source, info, start, nbytes) for start in starts]
            for i in np.random.default_rng(2).permutation(len(loans)):
                assert bytes(loans[i].view()) == wanted[i]
                loans[i].release()


@pytest.mark.parametrize("which", [0, 1])
def test_many_threads_borrow_the_same_file(both: list[StoredSource], which: int) -> None:
    source = both[which]
    infos = list(source.headers().tensors.values())
    expected = {info.name: read(source, info, 0, info.nbytes) for info in infos}

    def borrow(seed: int) -> bool:
        """Hold two loans side by side and read one again when the other is back."""
        rng = np.random.default_rng(seed)
        info = infos[rng.integers(len(infos))]
        start = int(rng.integers(info.nbytes // 8)) * 8
        nbytes = int(rng.integers(info.nbytes - start + 1))
        first, second = source.lend(info, 0, start), source.lend(info, start, nbytes)
        same = bytes(first.view()) + bytes(second.view()) == expected[info.name][: start + nbytes]
        second.release()
        same = same and bytes(first.view()) == expected[info.name][:start]
        first.release()
        return same

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(borrow, range(300)))


def test_first_loans_of_many_threads_map_the_file_once(tmp_path: Path) -> None:
    file = safetensors(SPANS)
    write(tmp_path, file)
    together = threading.Barrier(8)
    with FolderSource("f", tmp_path) as source:
        info = source.headers().tensors["b"]

        def borrow(i: int) -> bytes:
            together.wait(30)
            return lent(source, info, 0, info.nbytes)

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(borrow, range(8))) == {file[info.span[0] : info.span[1]]}
        (entry,) = source._files._open.values()
        assert entry.users == 0


def test_loan_outlives_the_descriptors_limit_and_the_close(tmp_path: Path) -> None:
    """What is lent stays, as a read under way does; the last release lets the file go."""
    for i in range(3):
        (tmp_path / str(i)).write_bytes(bytes([i]) * LEND_NBYTES)
    files = OpenFiles("m", lambda name: tmp_path / name, limit=1)
    loans = [files.lend(str(i), 0, LEND_NBYTES) for i in range(3)]
    if None in loans:
        pytest.skip("this system or file system does not lend")
    files.close()
    for i, loan in enumerate(loans):
        assert loan is not None
        assert bytes(loan.view()) == bytes([i]) * LEND_NBYTES
        loan.release()
    assert not files._open


@pytest.mark.parametrize("nbytes", [16, LEND_NBYTES])
def test_closed_source_lends_nothing(tmp_path: Path, nbytes: int) -> None:
    file = safetensors(SPANS)
    write(tmp_path, file)
    for source in (FolderSource("f", tmp_path), in_memory(file)):
        info = source.headers().tensors["b"]
        lent(source, info, 0, nbytes)
        source.close()
        with pytest.raises(UsageError, match="was closed"):
            source.lend(info, 0, nbytes)


def run(code: str, *args: str) -> str:
    """Run a script in a process of its own, which a bad page would kill."""
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    return done.stdout


CUT_SHORT = """
import os, sys
from mdm_kit.errors import IntegrityError
from mdm_kit.sources import FolderSource

folder, borrow_first = sys.argv[1], sys.argv[2] == "True"
source = FolderSource("m", folder)
info = source.headers().tensors["b"]
if borrow_first:  # the whole file is mapped before it is cut
    source.lend(info, 0, info.nbytes).release()
half = info.nbytes // 2
os.truncate(folder + "/model.safetensors", info.span[0] + half + 1000)
for start, nbytes in ((0, info.nbytes), (half, half), (half + 8192, half - 8192), (half + 996, 64)):
    try:
        source.lend(info, start, nbytes)
    except IntegrityError as error:
        print("cut short" in str(error))
loan = source.lend(info, 0, half)
print(bytes(loan.view()) == bytes(source.read(info, bytearray(half))))
loan.release()
"""


@pytest.mark.parametrize("borrow_first", [False, True])
def test_file_cut_short_is_told_and_kills_nobody(tmp_path: Path, borrow_first: bool) -> None:
    """Partly and wholly beyond the end, large and small; what is left can still be lent."""
    write(tmp_path, safetensors(SPANS))
    assert run(CUT_SHORT, str(tmp_path), str(borrow_first)).split() == ["True"] * 5


def test_failed_loan_gives_its_buffer_and_descriptor_back(tmp_path: Path) -> None:
    path = write(tmp_path, safetensors(SPANS))
    with FolderSource("f", tmp_path) as source:
        info = source.headers().tensors["c"]
        os.truncate(path, info.span[0])
        for _ in range(3):
            with pytest.raises(IntegrityError, match="cut short"):
                source.lend(info, 0, info.nbytes)
        (entry,) = source._files._open.values()
        assert entry.users == 0
        assert len(source._buffers._free) == 1


RESIDENT = """
import sys
from pathlib import Path
from mdm_kit.sources import FolderSource

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("RssFile:"))
    return int(found) * 1024

source = FolderSource("m", sys.argv[1])
info = source.headers().tensors["w"]
tile = 1 << 20
source.lend(info, 0, tile).release()
before = resident()
loan = source.lend(info, 0, info.nbytes)
sum(loan.view()[::4096])
held = resident() - before
loan.release()
after = resident() - before
for start in range(0, info.nbytes, tile):
    loan = source.lend(info, start, min(tile, info.nbytes - start))
    sum(loan.view()[::4096])
    loan.release()
tiles = resident() - before
source.close()
maps = Path("/proc/self/maps").read_text().count("model.safetensors")
print(held, after, tiles, maps)
"""


@linux
def test_memory_is_given_back_with_the_loan(tmp_path: Path) -> None:
    """Pages of a file count as the process's memory while they are mapped in."""
    nbytes = 48 << 20
    write(tmp_path, safetensors({"w": ("BF16", nbytes)}))
    held, after, tiles, maps = map(int, run(RESIDENT, str(tmp_path)).split())
    assert held == 0 or held > nbytes // 2  # 0: read into memory of ours, as where nothing is lent
    assert after < nbytes // 8
    assert tiles < nbytes // 8
    assert maps == 0


@linux
def test_what_is_lent_lies_in_the_file_and_what_is_small_does_not(tmp_path: Path) -> None:
    write(tmp_path, safetensors(SPANS))
    with FolderSource("f", tmp_path) as source:
        info = source.headers().tensors["b"]
        loan = source._files.lend(info.file, info.span[0], info.nbytes)
        (entry,) = source._files._open.values()
        if loan is None or entry.map is None:
            pytest.skip("this system or file system does not lend")
        lies_in = range(entry.map._address, entry.map._address + entry.map._nbytes)
        assert loan.address == lies_in[info.span[0]]
        loan.release()
        for start, nbytes in ((0, LEND_NBYTES - 1), (2, LEND_NBYTES)):
            loan = source.lend(info, start, nbytes)
            assert loan.address not in lies_in
            loan.release()
