"""The least a merge of these files can take: read them all, write one output, compute nothing.

python copy_bound.py OUT THREADS FILE...
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

BLOCK = 1 << 20
_own = threading.local()


def copy(out: int, files: list[int], start: int, size: int) -> None:
    if not hasattr(_own, "buffers"):
        _own.buffers = [memoryview(bytearray(BLOCK)) for _ in files]
    n = min(BLOCK, size - start)
    for fd, buffer in zip(files, _own.buffers, strict=True):
        os.preadv(fd, [buffer[:n]], start)
    os.pwrite(out, _own.buffers[0][:n], start)


def main() -> None:
    path, threads, *names = sys.argv[1:]
    files = [os.open(name, os.O_RDONLY) for name in names]
    size = os.fstat(files[0]).st_size
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    with ThreadPoolExecutor(int(threads)) as pool:
        for done in [pool.submit(copy, out, files, start, size) for start in range(0, size, BLOCK)]:
            done.result()
    os.fsync(out)


main()
