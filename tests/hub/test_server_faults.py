"""The loopback Hub's faults reach the client as real ones do, and its log says what went where."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import server
from hub_models import one_file

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers and as much of the body as comes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("GET", url.partition(parts.netloc)[2], headers=headers)
        answer = connection.getresponse()
        try:
            body = answer.read()
        except http.client.IncompleteRead as error:
            body = error.partial
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body
    finally:
        connection.close()


DATA = bytes(range(256)) * 40_000
PLACE = "/org/model/resolve/main/model.safetensors"


@pytest.fixture
def place(hub: Hub) -> str:
    hub.repo("org/model", {"model.safetensors": DATA, "small.json": b"{}"})
    return hub.url + PLACE


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [("0-99", 0, 100), ("5000000-", 5_000_000, None), ("-7", -7, None), ("10-99999999", 10, None)],
)
def test_ranges(place: str, asked: str, begin: int, end: int | None) -> None:
    status, headers, body = get(place, Range=f"bytes={asked}")
    assert (status, body) == (206, DATA[begin:end])
    first = begin % len(DATA)
    assert headers["content-range"] == f"bytes {first}-{first + len(body) - 1}/{len(DATA)}"


def test_range_past_the_end(place: str) -> None:
    status, headers, _ = get(place, Range=f"bytes={len(DATA)}-")
    assert (status, headers["content-range"]) == (416, f"bytes */{len(DATA)}")


def test_every_fault_once(hub: Hub, place: str) -> None:
    hub.fault("GET .*safetensors", status=429, headers={"Retry-After": "3"})
    status, headers, _ = get(place)
    assert (status, headers["retry-after"]) == (429, "3")
    hub.fault("GET .*safetensors", cut_after=2_000_000)
    assert get(place)[2] == DATA[:2_000_000]
    hub.fault("GET .*safetensors", ignore_range=True)
    assert get(place, Range="bytes=5-9")[::2] == (200, DATA)
    hub.fault("GET .*safetensors", headers={"Content-Range": "bytes 0-4/9"})
    assert get(place, Range="bytes=5-9")[1]["content-range"] == "bytes 0-4/9"
    hub.fault("GET .*safetensors", corrupt=True)
    body = get(place)[2]
    assert (len(body), body[:-1], body[-1]) == (len(DATA), DATA[:-1], DATA[-1] ^ 1)
    seen: list[str] = []
    hub.fault("GET .*safetensors", before=lambda: seen.append("called"), skip=1)
    assert get(place)[::2] == (200, DATA)
    assert seen == []
    assert get(place)[::2] == (200, DATA)
    assert seen == ["called"]
    assert [(r.status, r.sent) for r in hub.log] == [
        (429, 5),
        (200, 2_000_000),
        (200, len(DATA)),
        (206, 5),
        (200, len(DATA)),
        (200, len(DATA)),
        (200, len(DATA)),
    ]
    assert not hub.faults


def test_delay(hub: Hub, place: str) -> None:
    """Two answers that each wait for the other's request: latency does not queue them."""
    both = threading.Barrier(2, timeout=30)
    hub.fault("GET .*safetensors", before=both.wait, times=2)
    hub.fault("GET .*json", delay_s=0.01)
    other = threading.Thread(target=get, args=(place,))
    other.start()
    assert get(place)[0] == 200
    other.join()
    assert get(place.replace("model.safetensors", "small.json"))[0] == 200


def test_signed_addresses(hub: Hub, place: str) -> None:
    hub.repos["org/model"].redirect = True
    hub.signed_uses = 2
    status, headers, _ = get(place)
    assert status == 302
    away = headers["location"]
    assert get(away)[0] == 200
    assert get(away, Authorization=f"Bearer {server.TOKEN}")[0] == 400
    assert get(away + "0")[0] == 403
    assert get(away.replace("localhost", "127.0.0.1"))[0] == 404
    assert get(away, Range="bytes=0-3")[::2] == (206, DATA[:4])
    assert get(away)[0] == 403, "used twice already"
    hub.signed_lifetime_s = -1.0
    assert get(get(place)[1]["location"])[0] == 403
    assert get(f"{hub.storage_url}{PLACE}")[0] == 404


def test_connections_are_kept(hub: Hub, place: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=30)
    hub.fault("POST", status=503)
    for method, body in (("GET", None), ("POST", b"x" * 3_000_000), ("HEAD", None), ("GET", None)):
        connection.request(method, PLACE, body)
        answer = connection.getresponse()
        answer.read()
    connection.close()
    assert len({r.port for r in hub.log}) == 1
    assert [(r.status, r.sent, r.received) for r in hub.log] == [
        (200, len(DATA), 0),
        (503, 5, 3_000_000),
        (200, 0, 0),
        (200, len(DATA), 0),
    ]


def test_snapshot_download_after_cuts(hub: Hub, client: Client) -> None:
    """What has come is kept in the client's own blocks of 10 MiB."""
    files = {**one_file(nbytes=25_000_000), "d/odd name ü.json": b"{}"}
    hub.repo("org/model", files)
    for cut in (15_000_000, 12_000_000):
        hub.fault(r"GET .*resolve.*\.safetensors$", cut_after=cut)
    answer = client.stock(
        """
import hashlib
from pathlib import Path
folder = Path(snapshot_download("org/model"))
answer = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
          for p in folder.rglob("*") if p.is_file()}
"""
    )
    assert answer == {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    weights = [r.range for r in hub.log if r.method == "GET" and r.path.endswith(".safetensors")]
    assert weights == [None, "bytes=10485760-", "bytes=20971520-"]


def test_upload_cut_off(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {})
    hub.fault("PUT /upload/", cut_upload=500_000)
    client.stock(
        """
api.upload_file(path_or_fileobj=bytes(9_000_000), path_in_repo="a.bin", repo_id="org/model")
answer = None
"""
    )
    assert [r.status for r in hub.log if r.method == "PUT"][1:] == [200]
    assert hub.objects.get(hashlib.sha256(bytes(9_000_000)).hexdigest())


def test_errors_of_the_server_itself_are_told() -> None:
    hub = server.Hub()
    hub.on_path["/broken"] = lambda: 1 // 0
    assert get(hub.url + "/broken")[0] == 500
    with pytest.raises(ZeroDivisionError):
        hub.close()


def test_served_from_a_folder_by_a_process_of_its_own(tmp_path: Path) -> None:
    for path, data in one_file().items():
        place = tmp_path / "org/model" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    words = [sys.executable, server.__file__, "--folder", str(tmp_path), "--delay-ms", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert get(url + PLACE)[2] == one_file()["model.safetensors"]
            log = json.loads(get(url + "/log")[2])
            assert log[0]["path"] == PLACE
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
