"""What the stock client sends and reads by Xet, its usual way since huggingface_hub 2."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from server import READ_TOKEN

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

LARGE = """
import hashlib, random
def large(seed, nbytes=3_000_000):
    return random.Random(seed).randbytes(nbytes)
def digest(data):
    return hashlib.sha256(data).hexdigest()
"""


def newest(hub: Hub) -> dict[str, str | None]:
    """Return the sha256 of each large file of the newest commit."""
    repo = hub.repos["org/model"]
    files = repo.commits[repo.refs["main"]].files
    for blob in files.values():
        assert blob.sha256 in (None, hashlib.sha256(blob.read()).hexdigest())
    return {path: blob.sha256 for path, blob in files.items()}


@pytest.mark.parametrize("redirect", [False, True])
def test_put_and_read_back(hub: Hub, client: Client, redirect: bool) -> None:
    hub.redirect = redirect
    answer = client.stock(
        LARGE
        + """
from pathlib import Path
api.create_repo("org/model", private=True)
shards = [CommitOperationAdd(f"d/{i}.safetensors", large(i)) for i in range(3)]
for shard in shards:
    api.preupload_lfs_files("org/model", [shard])
made = api.create_commit("org/model", [*shards, CommitOperationAdd("config.json", b"{}")],
                         commit_message="One", parent_commit=api.model_info("org/model").sha)
again = api.upload_file(path_or_fileobj=large(1), path_in_repo="d/1.safetensors",
                        repo_id="org/model")
folder = Path(snapshot_download("org/model"))
answer = {
    "got": {p.relative_to(folder).as_posix(): digest(p.read_bytes())
            for p in folder.rglob("*.safetensors")},
    "sent": {f"d/{i}.safetensors": digest(large(i)) for i in range(3)},
    "noop": again.oid == made.oid,
    "hashes": len({e.xet_hash for e in api.list_repo_tree("org/model", "d")}),
}
""",
        xet=True,
    )
    assert answer["got"] == answer["sent"]
    assert answer["noop"] is True
    assert answer["hashes"] == 3
    assert newest(hub).items() >= answer["sent"].items()
    assert not any("/lfs/" in r.path or r.path.startswith("/upload/") for r in hub.log)
    assert not any(r.authorized for r in hub.log if r.path.startswith("/xorb/"))


def test_each_way_reads_what_the_other_wrote(hub: Hub, client: Client) -> None:
    write = """
add = CommitOperationAdd(NAME, large(SEED))
api.create_commit("org/model", [add], commit_message="Add")
answer = digest(large(SEED))
"""
    read = "answer = digest(open(hf_hub_download('org/model', NAME), 'rb').read())"
    hub.repo("org/model", {})
    for xet in (False, True):
        name, seed = f"'{xet}.bin'", str(int(xet))
        code = (LARGE + write).replace("NAME", name).replace("SEED", seed)
        wrote = client.stock(code, xet=xet)
        got = client.stock(LARGE + read.replace("NAME", name), xet=not xet)
        assert got == wrote


def test_chunks_are_sent_once_and_read_in_any_range(hub: Hub, client: Client) -> None:
    """The second file is the first with a part of its own: its terms point into two xorbs."""
    hub.repo("org/model", {})
    assert (
        client.stock(
            LARGE
            + """
import hf_xet
from huggingface_hub.utils import build_hf_headers
first = large(1, 2_000_000) + bytes(range(256)) * 4000 + large(2, 2_000_000)
second = first[:1_500_000] + large(3, 300_000) + first[1_500_000:]
for name, data in (("1.bin", first), ("2.bin", second)):
    api.upload_file(path_or_fileobj=data, path_in_repo=name, repo_id="org/model")
info = api.get_paths_info("org/model", "2.bin")[0]
url = f"{api.endpoint}/api/models/org/model/xet-read-token/main"
group = hf_xet.XetSession().new_download_stream_group(
    token_refresh_url=url, token_refresh_headers=build_hf_headers())
draw = random.Random(0)
ranges = [sorted(draw.sample(range(len(second) + 1), 2)) for _ in range(30)]
answer = []
for begin, end in [(0, len(second)), (0, 1), (len(second) - 1, len(second)), *ranges]:
    file = hf_xet.XetFileInfo(info.xet_hash, info.size)
    got = b"".join(group.download_stream(file, begin, end))
    answer.append(got == second[begin:end])
""",
            xet=True,
        )
        == [True] * 33
    )
    sent = [r.received for r in hub.log if "/xorbs/" in r.path]
    assert len(sent) == 2
    assert sent[1] < 1_000_000


def test_who_may_not_write(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {})
    code = LARGE + (
        """
add = CommitOperationAdd("a.bin", large(1))
try:
    api.create_commit("org/model", [add], commit_message="Add")
    answer = "written"
except Exception as error:
    answer = type(error).__name__
"""
    )
    assert client.stock(code, xet=True, token=READ_TOKEN) != "written"
    hub.xet = False
    assert client.stock(code, xet=True) != "written"
    assert newest(hub) == {}
    assert not any(r.path.startswith("/cas/") for r in hub.log)
