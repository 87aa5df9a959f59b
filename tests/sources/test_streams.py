"""Streams: the right bytes, each fetched once where there is room, in few requests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_kit.sources.streams import CONNECTIONS, GAP_NBYTES, Streams, window_nbytes

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1 << 20


class Far:
    """A file in memory that counts what is fetched of it."""

    def __init__(self, nbytes: int, seed: int = 0) -> None:
        self.data = np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8).tobytes()
        self.fetched: list[tuple[int, int]] = []
        self.arrivals: list[tuple[int, int]] = []
        self.fails_from: int | None = None
        self.gate: threading.Event | None = None
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    def fetch(self, begin: int, into: memoryview, stopped: Callable[[], bool]) -> None:
        with self.lock:
            self.fetched.append((begin, begin + len(into)))
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        if self.gate is not None:
            self.gate.wait()
        if self.fails_from is not None and begin + len(into) > self.fails_from:
            raise ConnectionError("the line is dead")
        into[:] = self.data[begin : begin + len(into)]
        with self.lock:
            self.under_way -= 1

    def arrived(self, begin: int, data: memoryview) -> None:
        with self.lock:
            self.arrivals.append((begin, begin + len(data)))

    @property
    def nbytes_fetched(self) -> int:
        return sum(end - begin for begin, end in self.fetched)


def taken(streams: Streams, far: Far, begin: int, end: int) -> bytes:
    loan = streams.borrow(far, begin, end)
    assert loan is not None
    try:
        return bytes(loan.view())
    finally:
        loan.release()


def announce(streams: Streams, touches: list[tuple[Far, int, int]]) -> None:
    for far, begin, end in touches:
        streams.expect(far, begin, end)
    streams.go()


def in_pieces(far: Far, begin: int, end: int, step: int) -> list[tuple[Far, int, int]]:
    return [(far, at, min(end, at + step)) for at in range(begin, end, step)]


def left_over(streams: Streams) -> int:
    """Return how many bytes are held by streams that were closed, after everything was taken."""
    return streams._held + streams._fresh


def test_neighbours_come_in_one_request_and_each_byte_once() -> None:
    far = Far(64 * MB)
    touches = in_pieces(far, 1000, 64 * MB, MB)
    with Streams(64 * MB, 128 * MB) as streams:
        announce(streams, touches)
        for _, begin, end in touches:
            assert taken(streams, far, begin, end) == far.data[begin:end]
    assert left_over(streams) == 0
    assert far.nbytes_fetched == 64 * MB - 1000
    assert len(far.fetched) == -(-64 // (window_nbytes(64 * MB) // MB)) == 8
    assert far.most_under_way <= CONNECTIONS
    assert sorted(far.arrivals) == sorted(far.fetched)


def test_a_small_gap_is_fetched_and_a_large_one_is_not() -> None:
    far = Far(8 * MB)
    near, beyond = 1000 + GAP_NBYTES, 3000 + 2 * GAP_NBYTES + 1
    touches = [(far, 0, 1000), (far, near, near + 1000), (far, beyond, beyond + 999)]
    with Streams(256 * MB, 256 * MB) as streams:
        announce(streams, touches)
        for _, begin, end in touches:
            assert taken(streams, far, begin, end) == far.data[begin:end]
    assert sorted(far.fetched) == [(0, near + 1000), (beyond, beyond + 999)]


def test_files_in_another_order_are_still_read_in_large_requests() -> None:
    """Tensors that two files hold in different order: neighbours are those soon wanted."""
    a, b = Far(32 * MB, 1), Far(32 * MB, 2)
    order = np.random.default_rng(0).permutation(32)
    touches = [
        touch
        for i, j in enumerate(order)
        for touch in ((a, i * MB, (i + 1) * MB), (b, int(j) * MB, (int(j) + 1) * MB))
    ]
    with Streams(128 * MB, 256 * MB) as streams:
        announce(streams, touches)
        for far, begin, end in touches:
            assert taken(streams, far, begin, end) == far.data[begin:end]
    assert a.nbytes_fetched == b.nbytes_fetched == 32 * MB
    assert len(a.fetched) + len(b.fetched) <= 6


def test_what_is_read_again_soon_is_fetched_once() -> None:
    far = Far(16 * MB)
    touches = in_pieces(far, 0, 16 * MB, MB) * 3
    with Streams(8 * MB, 32 * MB) as streams:
        announce(streams, touches)
        for _, begin, end in touches:
            taken(streams, far, begin, end)
    assert left_over(streams) == 0
    assert far.nbytes_fetched == 16 * MB


def test_without_room_it_is_fetched_again_and_is_the_same() -> None:
    far = Far(16 * MB)
    touches = in_pieces(far, 0, 16 * MB, MB) * 2
    with Streams(2 * MB, 4 * MB) as streams:
        announce(streams, touches)
        for _, begin, end in touches:
            assert taken(streams, far, begin, end) == far.data[begin:end]
            assert streams._held <= 6 * MB
    assert 16 * MB < far.nbytes_fetched <= 32 * MB


def test_bytes_nobody_announced_are_not_lent() -> None:
    far = Far(1000)
    with Streams(MB, MB) as streams:
        assert streams.borrow(far, 0, 10) is None
        announce(streams, [(far, 0, 10)])
        assert streams.borrow(far, 0, 11) is None
        assert taken(streams, far, 0, 10) == far.data[:10]
        assert streams.borrow(far, 0, 10) is None


def test_a_byte_is_aligned_in_memory_as_in_its_file() -> None:
    far = Far(4 * MB)
    touches = [(far, 8, MB), (far, MB + 16, 2 * MB), (far, 2 * MB + 64, 3 * MB)]
    with Streams(64 * MB, 64 * MB) as streams:
        announce(streams, touches)
        for _, begin, end in touches:
            loan = streams.borrow(far, begin, end)
            assert loan is not None
            assert loan.address % 64 == begin % 64
            loan.release()


def test_a_touch_larger_than_a_window_is_put_together() -> None:
    far = Far(20 * MB)
    with Streams(8 * MB, 64 * MB) as streams:
        announce(streams, [(far, 5, 20 * MB)])
        assert taken(streams, far, 5, 20 * MB) == far.data[5:]
    assert left_over(streams) == 0
    assert far.nbytes_fetched == 20 * MB - 5


def test_no_more_is_fetched_ahead_than_allowed() -> None:
    far = Far(64 * MB)
    touches = in_pieces(far, 0, 64 * MB, MB)
    with Streams(8 * MB, 64 * MB) as streams:
        announce(streams, touches)
        taken(streams, far, 0, MB)
        taken(streams, far, MB, 2 * MB)
        assert streams._fresh <= 8 * MB
        assert far.nbytes_fetched <= 10 * MB


def test_a_failure_reaches_whoever_waits() -> None:
    far = Far(8 * MB)
    far.fails_from = 4 * MB
    touches = in_pieces(far, 0, 8 * MB, MB)
    with Streams(8 * MB, 8 * MB) as streams:
        announce(streams, touches)
        with pytest.raises(ConnectionError, match="dead"):
            taken(streams, far, 7 * MB, 8 * MB)


def test_a_failure_of_the_streams_themselves_reaches_whoever_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(streams: Streams, nbytes: int) -> bytearray:
        raise MemoryError

    monkeypatch.setattr(Streams, "_block", no_memory)
    far = Far(MB)
    with Streams(8 * MB, 8 * MB) as streams:
        announce(streams, [(far, 0, MB)])
        with pytest.raises(MemoryError):
            taken(streams, far, 0, MB)


def test_after_a_failure_nobody_fetches_on() -> None:
    """Who would fetch, or wait before another try, is told that it is over."""
    dead, slow = Far(MB), Far(MB)
    dead.fails_from = 0
    asked = threading.Event()

    def fetch(begin: int, into: memoryview, stopped: Callable[[], bool]) -> None:
        while not stopped():
            asked.wait(0.001)
        asked.set()

    slow.fetch = fetch  # type: ignore[method-assign]
    with Streams(8 * MB, 8 * MB) as streams:
        announce(streams, [(slow, 0, MB), (dead, 0, MB)])
        with pytest.raises(ConnectionError, match="dead"):
            taken(streams, slow, 0, MB)
        assert asked.wait(10)


def test_what_is_used_was_taken_note_of_before() -> None:
    far = Far(4 * MB)
    begun, noting, noted = threading.Event(), threading.Event(), far.arrived

    def arrived(begin: int, data: memoryview) -> None:
        begun.set()
        noting.wait()
        noted(begin, data)

    far.arrived = arrived  # type: ignore[method-assign]
    with Streams(8 * MB, 8 * MB) as streams, ThreadPoolExecutor(1) as pool:
        announce(streams, [(far, 0, 4 * MB)])
        using = pool.submit(taken, streams, far, 0, 4 * MB)
        assert begun.wait(10)
        assert not using.done()
        noting.set()
        using.result()
        assert sum(end - begin for begin, end in far.arrivals) == 4 * MB
        streams.settle()


def test_closing_wakes_whoever_waits() -> None:
    far = Far(MB)
    far.gate = threading.Event()
    streams = Streams(MB, MB)
    announce(streams, [(far, 0, MB)])
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(taken, streams, far, 0, MB)
        closing = pool.submit(streams.close)
        with pytest.raises(RuntimeError, match="closed"):
            waiting.result()
        far.gate.set()
        closing.result()


def test_what_somebody_waits_for_is_not_dropped_for_what_does_not_fit_anyway() -> None:
    """One reader works long on a part, another waits for one that lies in many windows."""
    far = Far(80 * MB)
    held, next_one, waited = (0, 8 * MB), (16 * MB, 32 * MB), (40 * MB, 80 * MB)
    with Streams(64 * MB, 16 * MB) as streams:
        announce(streams, [(far, *held), (far, *next_one), (far, *waited)])
        loan = streams.borrow(far, *held)
        assert loan is not None
        assert taken(streams, far, *waited) == far.data[slice(*waited)]
        loan.release()
        assert taken(streams, far, *next_one) == far.data[slice(*next_one)]
    assert left_over(streams) == 0
    assert far.nbytes_fetched == (8 + 16 + 40) * MB


touches_of = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 5000), st.integers(1, 3000)), max_size=40
)


@given(touches=touches_of, ahead=st.integers(400, 9000), held=st.integers(1, 9000))
@settings(max_examples=60, deadline=None)
def test_any_reading_gets_its_bytes(
    touches: list[tuple[int, int, int]], ahead: int, held: int
) -> None:
    """Overlaps, repeats, any room, and two readers that take turns as they come."""
    files = [Far(8000, 1), Far(8000, 2)]
    wanted = [(files[i], begin, begin + n) for i, begin, n in touches]
    with Streams(ahead, held) as streams, ThreadPoolExecutor(2) as pool:
        announce(streams, wanted)
        found = list(pool.map(lambda t: taken(streams, *t), wanted))
    assert left_over(streams) == 0
    assert found == [far.data[begin:end] for far, begin, end in wanted]
