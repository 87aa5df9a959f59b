"""A merge that is interrupted while the Hub keeps it waiting."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save
from test_hub_merge import run

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

RECIPE = "merge_method: linear\nmodels: [{model: org/a}, {model: org/b}]\nparameters: {weight: 1}\n"


def test_it_does_not_wait_for_a_server_that_is_silent(hub: Hub, client: Client) -> None:
    over = threading.Event()
    for name in "ab":
        hub.repo(f"org/{name}", {"model.safetensors": save({"w": np.ones(5_000_000, np.float32)})})
    (client.home / "r.yml").write_text(RECIPE)
    program = "import sys\nfrom mdm_kit.cli.main import run\nsys.argv[1:] = WORDS\nrun()"
    words = ["merge", "r.yml", "out"]
    with client.start(program.replace("WORDS", repr(words)), prelude="") as merging:
        sent: list[float] = []

        def interrupt() -> None:
            sent.append(time.monotonic())
            merging.send_signal(signal.SIGINT)
            over.wait(60)

        # The headers come, the first window's answer does not.
        hub.fault(r"GET .*b/resolve.*safetensors", skip=1, before=interrupt)
        _, err = merging.communicate(timeout=60)
        ended = time.monotonic()
        over.set()
    assert merging.returncode == 130, err
    assert "run the same command again to go on" in err
    assert ended - sent[0] < 20, "far below the half minute the client's time-out takes"
    hub.faults.clear()
    answer = run(client, "merge", "r.yml", "out")
    assert answer["code"] == 0, answer["err"]
