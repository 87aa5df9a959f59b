"""Bytes of files that are not on this machine, fetched ahead in windows, kept while awaited.

Whoever reads says beforehand what, in order (`expect`). A few threads fetch it: touches that are
neighbours in their file and in time become one window, one request. A window is kept until the last
touch that was announced has had it, so what is read twice soon is fetched once; where room runs
out, the window that is wanted last goes, and is fetched again when its time comes.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Self

from mdm_kit.sources.loan import Buffers, Loan
from mdm_kit.sources.windows import ALIGNMENT, Touch, Window, WindowedFile

if TYPE_CHECKING:
    from mdm_kit.sources.windows import FarFile

CONNECTIONS = 4
"""Requests under way at once; more gained nothing against a server on the same machine, and the
Hub counts them."""
WINDOW_NBYTES = 32 << 20
"""The most one request asks for."""
GAP_NBYTES = 1 << 20
"""Bytes between two touches that cost less to fetch than another request, at most"""
GAP_SHARE = 1 / 32
"""of a window: small ones, where memory is scarce, would else be mostly gaps."""
AHEAD_NBYTES = 256 << 20
"""How much may lie fetched, or be on its way, before anybody has used it."""
LAST_WAIT_S = 2.0
"""How long a request under way may take to notice that nobody wants it any more."""
_SPARE_BLOCKS = 4


def window_nbytes(ahead_nbytes: int) -> int:
    """Return the most one request asks for, so that all that are under way fit twice."""
    return max(1, min(WINDOW_NBYTES, ahead_nbytes // (2 * CONNECTIONS)))


def gap_nbytes(window: int) -> int:
    """Return the most bytes nobody asked for that lie between two touches of one request."""
    return min(GAP_NBYTES, int(window * GAP_SHARE))


class Streams:
    """Fetches ahead for all far files of a merge; close it, or use it in a `with`."""

    def __init__(self, ahead_nbytes: int, held_nbytes: int) -> None:
        """Fetch up to `ahead_nbytes` before they are used, hold up to `held_nbytes` in all.

        More is held only while somebody waits who could not go on otherwise.
        """
        self._ahead = ahead_nbytes
        self._window = window_nbytes(ahead_nbytes)
        self._gap = gap_nbytes(self._window)
        self._limit = held_nbytes
        self.reach = 2 * held_nbytes + ahead_nbytes
        self._changed = threading.Condition()
        self._files: dict[FarFile, WindowedFile] = {}
        self._open: deque[Touch] = deque()
        """Touches some of whose bytes no window holds, in order."""
        self._announced = self._held = self._fresh = self._under_way = 0
        self._spare: list[bytearray] = []
        self._copies = Buffers()
        self._failure: BaseException | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"fetch-{i}", daemon=True)
            for i in range(CONNECTIONS)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        """Return the streams."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self.close()

    def close(self) -> None:
        """Stop fetching; whoever waits gets an error. Closing twice does nothing.

        A request nobody answers is not waited for: it ends by itself.
        """
        self.stop()
        for thread in self._threads:
            thread.join(LAST_WAIT_S)

    def stop(self) -> None:
        """Stop fetching, without waiting for what is under way; whoever waits gets an error."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def settle(self) -> None:
        """Return when nothing is on its way any more, and all that came was taken note of."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over() or not self._under_way)

    def expect(self, far: FarFile, begin: int, end: int) -> None:
        """Say that `borrow` will be called with the same arguments, after all said before."""
        if begin == end:
            return
        with self._changed:
            file = self._files.setdefault(far, WindowedFile(far))
            touch = Touch(file, begin, end, self._announced)
            self._announced += end - begin
            file.touches.append(touch)
            for window in file.over(begin, end):
                window.awaited += 1
            if touch.lacks:
                self._open.append(touch)

    def go(self) -> None:
        """Fetch what was announced: with neighbours known first, requests are few and large."""
        with self._changed:
            self._changed.notify_all()

    def borrow(self, far: FarFile, begin: int, end: int) -> Loan | None:
        """Return bytes that were announced, waiting for them; None for others.

        Raises what fetching them raised.
        """
        with self._changed:
            file = self._files.get(far)
            touch = next((t for t in file.touches if t.fits(begin, end)), None) if file else None
            if file is None or touch is None:
                return None
            windows = self._awaited(file, touch)
            file.touches.remove(touch)
            for window in windows:
                window.users += 1
                window.awaited -= 1
                self._fresh -= window.nbytes if window.fresh else 0
                window.fresh = False
            self._changed.notify_all()
        if len(windows) == 1:
            window = windows[0]
            release = lambda: self._release(file, windows)  # noqa: E731
            return Loan(window.address(begin), end - begin, release)
        loan, room = self._copies.lend(end - begin)
        for window in windows:
            low, high = max(begin, window.begin), min(end, window.end)
            room[low - begin : high - begin] = window.view(low, high)
        self._release(file, windows)
        return loan

    def _awaited(self, file: WindowedFile, touch: Touch) -> list[Window]:
        """Return the windows of a touch once all are there."""
        touch.waiting = True
        self._changed.notify_all()
        while True:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise RuntimeError("the streams were closed while somebody waited for bytes")
            windows = file.over(touch.begin, touch.end)
            there = sum(min(touch.end, w.end) - max(touch.begin, w.begin) for w in windows)
            if there == touch.end - touch.begin and all(w.ready for w in windows):
                return windows
            self._changed.wait()

    def _release(self, file: WindowedFile, windows: list[Window]) -> None:
        with self._changed:
            for window in windows:
                window.users -= 1
                self._drop_idle(file, window)

    def _drop_idle(self, file: WindowedFile, window: Window) -> None:
        if window.users or window.awaited:
            return
        self._drop(file, window)
        self._changed.notify_all()

    def _drop(self, file: WindowedFile, window: Window) -> None:
        file.windows.remove(window)
        self._held -= window.nbytes
        self._fresh -= window.nbytes if window.fresh else 0
        if len(self._spare) < _SPARE_BLOCKS:
            self._spare.append(window.block)

    def _serve(self) -> None:
        """Fetch one window after the other until closed."""
        try:
            while (found := self._awaited_next()) is not None:
                self._fetch(*found)
        except BaseException as failure:  # noqa: BLE001 -- it is raised where it is waited for
            with self._changed:
                self._failure = self._failure or failure
                self._changed.notify_all()

    def _awaited_next(self) -> tuple[WindowedFile, Window] | None:
        """Return a window to fetch once there is one, None once there will be none."""
        with self._changed:
            while not self._is_over():
                found = self._next()
                if found is not None:
                    return found
                self._changed.wait()
            return None

    def _is_over(self) -> bool:
        """Whether nobody gets bytes any more."""
        return self._closed or self._failure is not None

    def _fetch(self, file: WindowedFile, window: Window) -> None:
        view = window.view(window.begin, window.end)
        file.far.fetch(window.begin, view, self._is_over)
        # Before it is used: a busy machine would else let later windows overtake the digest.
        file.far.arrived(window.begin, view)
        with self._changed:
            window.ready = True
            self._under_way -= 1
            window.users -= 1
            self._drop_idle(file, window)
            self._changed.notify_all()

    def _next(self) -> tuple[WindowedFile, Window] | None:
        """Return a new window to fetch, None while there is nothing to fetch or no room for it."""
        if not self._open:
            return None
        waited = next((t for t in self._open if t.waiting), None)
        touch = waited or self._open[0]
        begin, end = self._span_around(touch)
        if not self._make_room(end - begin, touch) and waited is None:
            return None
        file = touch.file
        window = Window(begin, end, self._block(end - begin))
        window.awaited = len(file.over_touches(window))
        file.windows.insert(bisect_right(file.windows, begin, key=lambda w: w.begin), window)
        self._held += window.nbytes
        self._fresh += window.nbytes
        self._under_way += 1
        self._open = deque(t for t in self._open if t.file is not file or t.lacks)
        return file, window

    def _span_around(self, touch: Touch) -> tuple[int, int]:
        """Return the window for the first bytes a touch lacks, with neighbours wanted soon."""
        file = touch.file
        near = (
            t
            for t in takewhile(lambda t: t.at < touch.at + self._ahead, self._open)
            if t.file is file
        )
        pieces = sorted({piece for t in (touch, *near) for piece in file.missing(t.begin, t.end)})
        wanted, end = next(file.missing(touch.begin, touch.end))
        begin, end = wanted, min(end, wanted + self._window)
        for low, high in pieces:
            if low >= begin and low - end <= self._gap and high - begin <= self._window:
                end = max(end, high)
        for low, high in reversed(pieces):
            if high <= begin and begin - high <= self._gap and end - low <= self._window:
                begin = low
        # What lies between two pieces may be in a window already.
        return next(part for part in file.missing(begin, end) if part[0] <= wanted < part[1])

    def _make_room(self, nbytes: int, touch: Touch) -> bool:
        """Return whether a window fits, after letting go of those wanted later than `touch`.

        Unless somebody waits for it, those stay that somebody waits for, and all where it would
        not fit even so: they would be fetched again and again.
        """
        if self._fresh and self._fresh + nbytes > self._ahead:
            return False
        over = self._held + nbytes - self._limit
        if over <= 0 or not self._held:
            return True
        idle = [
            (touches[0].at, file, window)
            for file in self._files.values()
            for window in file.windows
            if window.ready and not window.users and (touches := file.over_touches(window))
            if touches[0].at > touch.at and (touch.waiting or not any(t.waiting for t in touches))
        ]
        going, freed = [], 0
        for _, file, window in sorted(idle, key=lambda found: -found[0]):
            if freed < over:
                going.append((file, window))
                freed += window.nbytes
        fits = freed >= min(over, self._held)
        if fits or touch.waiting:
            for file, window in going:
                self._let_go(file, window)
        return fits

    def _let_go(self, file: WindowedFile, window: Window) -> None:
        """Drop a window that is still wanted; it is fetched again when its time comes."""
        self._drop(file, window)
        missed = [t for t in file.over_touches(window) if t not in self._open]
        self._open = deque(sorted((*self._open, *missed), key=lambda t: t.at))

    def _block(self, nbytes: int) -> bytearray:
        need = nbytes + ALIGNMENT
        for i, block in enumerate(self._spare):
            if len(block) >= need:
                return self._spare.pop(i)
        return bytearray(need)
