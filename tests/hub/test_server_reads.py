"""What the loopback Hub serves is read right by the client's other readers and by ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hub_models import one_file, sharded

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub


@pytest.mark.parametrize("redirect", [False, True])
def test_readers_of_parts(hub: Hub, client: Client, redirect: bool) -> None:
    files = one_file()
    hub.repo("org/model", files, redirect=redirect, private=True)
    answer = client.stock(
        """
fs = HfFileSystem()
with fs.open("org/model/model.safetensors", "rb") as file:
    file.seek(1_000_000)
    part = file.read(8)
metadata = api.get_safetensors_metadata("org/model")
answer = [part.hex(), sorted(metadata.weight_map), sorted(f["name"] for f in fs.ls("org/model"))]
"""
    )
    weights = files["model.safetensors"]
    names = sorted(f"org/model/{path}" for path in files)
    assert answer == [weights[1_000_000:1_000_008].hex(), ["big", "small"], names]


def test_a_whole_folder_there_and_back(hub: Hub, client: Client) -> None:
    for path, data in sharded().items():
        place = client.home / "there" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    answer = client.stock(
        """
api.create_repo("org/model")
api.upload_folder(repo_id="org/model", folder_path="there")
snapshot_download("org/model", local_dir="back", allow_patterns=["*.safetensors", "*/*.jinja"])
from pathlib import Path
answer = sorted(p.relative_to("back").as_posix() for p in Path("back").rglob("*")
                if p.is_file() and ".cache" not in p.parts)
"""
    )
    wanted = [path for path in sharded() if path.endswith((".safetensors", ".jinja"))]
    assert answer == sorted(wanted)
    for path in wanted:
        assert (client.home / "back" / path).read_bytes() == sharded()[path]


@pytest.mark.parametrize("xet", [False, True])
def test_our_reader_reads_what_was_uploaded(hub: Hub, client: Client, xet: bool) -> None:
    (client.home / "model.safetensors").write_bytes(one_file()["model.safetensors"])
    client.stock(
        """
api.create_repo("org/model", private=True)
api.upload_file(path_or_fileobj="model.safetensors", path_in_repo="model.safetensors",
                repo_id="org/model")
answer = None
""",
        xet=xet,
    )
    answer = client.run(
        """
with HubSource("m", "org/model") as source:
    found = source.headers().tensors
    answer = [bytes(source.read(found["small"])).hex(), len(source.read(found["big"]))]
""",
        token=True,
        xet=xet,
    )
    assert answer == [np.arange(3.0).tobytes().hex(), 4_000_000]
    assert bool(hub.requests("POST /cas/v1/xorbs/")) == xet
    assert bool(hub.requests("PUT /upload/")) == (not xet)
