"""One model read by range, ahead and in any order: the right bytes, and what is known of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from large_models import base_tensors, write_model
from ranged_merges import content, data_nbytes, resolved

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

READ = """
import hashlib, random
from concurrent.futures import ThreadPoolExecutor
from mdm_kit.run.foresight import Foresight
source = HubSource("m", "org/model")
infos = list(source.headers().tensors.values())
PIECE = 1_000_000
pieces = [
    (i, at, min(PIECE, i.nbytes - at)) for i in infos for at in range(0, i.nbytes, PIECE)
]
order = ORDER
if order == "shuffled":
    random.Random(0).shuffle(pieces)
elif order == "backwards":
    pieces.reverse()
def announce(piece):
    source.expect(*piece)
    return piece[2]
def read(piece):
    loan = source.lend(*piece)
    try:
        return bytes(loan.view())
    finally:
        loan.release()
with Foresight([source], AHEAD << 20, 2 * AHEAD << 20) as foresight:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(read, foresight.ahead(pieces, announce)))
tensors = {i.name: bytearray(i.nbytes) for i in infos}
for (info, at, n), data in zip(pieces, found, strict=True):
    tensors[info.name][at : at + n] = data
answer = {
    "tensors": {n: hashlib.sha256(t).hexdigest() for n, t in tensors.items()},
    "seen": source.seen_digest("model.safetensors"),
    "direct": hashlib.sha256(source.read(infos[0])).hexdigest(),
}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single") / "model"
    write_model(folder, base_tensors(10, 1_500_001 // 16 * 16))
    return folder


def read(client: Client, order: str = "as stored", ahead_mib: int = 16) -> Any:
    return client.run(READ.replace("ORDER", repr(order)).replace("AHEAD", str(ahead_mib)))


def expected(model: Path) -> dict[str, str]:
    values = {n: t.tobytes() for n, t in base_tensors(10, 1_500_001 // 16 * 16)}
    return {n: hashlib.sha256(data).hexdigest() for n, data in values.items()}


@pytest.mark.parametrize("order", ["as stored", "backwards", "shuffled"])
def test_any_order(hub: Hub, client: Client, model: Path, order: str) -> None:
    hub.repo_folder("org/model", model, redirect=True)
    answer = read(client, order)
    assert answer["tensors"] == expected(model)
    nbytes = (model / "model.safetensors").stat().st_size
    again = 3_000_000  # what is read once more at the end, without having been announced
    assert data_nbytes(hub.log) <= (1.1 if order == "shuffled" else 1) * nbytes + again
    if order == "as stored":
        whole = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
        assert answer["seen"] == whole
        assert len(resolved(hub.log)) == 1
        assert len(content(hub.log)) <= nbytes / 2_000_000 + 3
    if order == "shuffled":
        assert answer["seen"] is None


def test_a_time_out_is_waited_out(hub: Hub, client: Client, model: Path) -> None:
    hub.repo_folder("org/model", model, redirect=True)
    hub.fault("GET /cdn/", delay_s=3.0, skip=3)
    answer = client.run(
        "import mdm_kit.sources.hub_file as hub_file\nhub_file.TIMEOUT_S = 1.0\n"
        + READ.replace("ORDER", "'as stored'").replace("AHEAD", "16")
    )
    assert answer["tensors"] == expected(model)


def test_the_storage_that_refuses_every_address(hub: Hub, client: Client, model: Path) -> None:
    hub.repo_folder("org/model", model, redirect=True)
    hub.fault("GET /cdn/", status=403, times=10_000)
    answer = client.run("answer = told(lambda: HubSource('m', 'org/model').headers())")
    assert (answer["kind"], answer["exit"]) == ("SourceError", 5)
    assert "--download" in answer["words"]
    assert len(resolved(hub.log)) == 3, "as often as anything is tried"


def test_a_login_stays_with_the_hub(hub: Hub, client: Client, model: Path) -> None:
    hub.repo_folder("org/model", model, redirect=True, private=True)
    hub.signed_uses = 2
    answer = client.run(READ.replace("ORDER", "'as stored'").replace("AHEAD", "16"), token=True)
    assert answer["tensors"] == expected(model)
    assert all(r.authorized == ("/cdn/" not in r.path) for r in hub.log)


def test_stopping_does_not_wait_for_a_server_that_wants_to_be_left_alone(
    hub: Hub, client: Client, model: Path
) -> None:
    hub.repo_folder("org/model", model, redirect=True)
    hub.fault("GET /cdn/", status=429, headers={"Retry-After": "200"}, times=10_000, skip=1)
    answer = client.run(
        """
import threading, time
from mdm_kit.sources.streams import Streams
source = HubSource("m", "org/model")
info = max(source.headers().tensors.values(), key=lambda i: i.nbytes)
streams = Streams(16 << 20, 32 << 20)
source.fetch_through(streams)
source.expect(info, 0, info.nbytes)
streams.go()
while not any(f.windows for f in streams._files.values()):
    time.sleep(0.01)
start = time.monotonic()
streams.close()
answer = time.monotonic() - start
"""
    )
    assert answer < 20
