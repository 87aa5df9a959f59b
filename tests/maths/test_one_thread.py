"""torch's operations inside `one_thread` take no help, whoever else comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from mdm_kit.maths.mergekit_arithmetic.one_thread import one_thread


@pytest.fixture
def two() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two")
def test_a_new_thread_takes_no_help_while_others_leave() -> None:
    entered, left = threading.Event(), threading.Event()
    found = []

    def new() -> None:
        with one_thread():
            entered.set()
            left.wait()
            torch.ones(4, 4) @ torch.ones(4, 4)
            found.append(torch.get_num_threads())

    def other() -> None:
        with one_thread():
            pass

    with one_thread():  # so that nobody looks at the number for the first time
        threads = [threading.Thread(target=new)]
        threads[0].start()
        entered.wait()
        threads.append(threading.Thread(target=other))
        threads[1].start()
        threads[1].join()
        left.set()
        threads[0].join()
    assert found == [1]
    assert torch.get_num_threads() == 2
