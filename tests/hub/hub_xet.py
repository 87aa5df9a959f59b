"""The loopback Hub's Xet storage: chunks packed in xorbs, and files as terms that point into them.

The client's own library packs the chunks and, when a commit names a file, unpacks them again in a
process of its own: from then on the file is served like any other of Git LFS.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hub_accounts import A, readable, writable
from hub_answers import Content, Refused
from hub_commits import target
from hub_lfs import admit, receive, signed, temporary
from hub_store import sha256_of
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from pathlib import Path

    from hub_store import Blob
    from server import Hub
    from starlette.requests import Request

REBUILD = """
import json, sys
from hf_xet import XetFileInfo, XetSession
asked = json.load(sys.stdin)
with XetSession().new_file_download_group(
    endpoint=asked["url"], token=asked["token"], token_expiry_unix_secs=asked["expires"]
) as group:
    group.start_download_file(XetFileInfo(asked["hash"], asked["nbytes"]), asked["place"])
"""


@dataclass(frozen=True, slots=True)
class Term:
    """A run of chunks in one xorb."""

    xorb: str
    nbytes: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class XetFile:
    """What a shard says of a file; nobody has looked yet whether it is true."""

    xet: str
    sha256: str | None
    terms: tuple[Term, ...]

    @property
    def nbytes(self) -> int:
        return sum(term.nbytes for term in self.terms)


def printed(raw: bytes) -> str:
    """Return a hash as Xet prints it: four little-endian numbers."""
    return "".join(f"{int.from_bytes(raw[i : i + 8], 'little'):016x}" for i in range(0, 32, 8))


def read_shard(data: bytes) -> list[XetFile]:
    """Return the files a shard describes: rows of 48 bytes, ended by one that begins with ones."""
    rows = iter([data[i : i + 48] for i in range(48, len(data), 48)])
    files = []
    for head in rows:
        if head[:32] == b"\xff" * 32:
            break
        flags, n_terms = (int.from_bytes(head[i : i + 4], "little") for i in (32, 36))
        terms = tuple(read_term(next(rows)) for _ in range(n_terms))
        if flags & 1 << 31:
            for _ in terms:
                next(rows)
        sha256 = printed(next(rows)[:32]) if flags & 1 << 30 else None
        files.append(XetFile(printed(head[:32]), sha256, terms))
    return files


def read_term(row: bytes) -> Term:
    nbytes, first, end = (int.from_bytes(row[i : i + 4], "little") for i in (36, 40, 44))
    return Term(printed(row[:32]), nbytes, first, end)


def read_xorb(place: Path) -> list[tuple[int, int]]:
    """Return where each chunk begins in a xorb and its unpacked size, and where the last ends."""
    chunks, at = [], 0
    with place.open("rb") as file:
        while len(head := file.read(8)) == 8 and head[0] == 0:
            packed, unpacked = (int.from_bytes(head[i : i + 3], "little") for i in (1, 5))
            chunks.append((at, unpacked))
            at += 8 + packed
            file.seek(at)
    return [*chunks, (at, 0)]


class Cas:
    """The xorbs and shards of all repositories, and who may ask for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, XetFile] = {}
        self.by_sha256: dict[str, XetFile] = {}
        self.tokens: dict[str, str] = {}
        self._chunks: dict[str, list[tuple[int, int]]] = {}

    def keep(self, file: XetFile) -> None:
        self.files[file.xet] = file
        if file.sha256:
            self.by_sha256[file.sha256] = file

    def keep_only(self, wanted: set[str]) -> None:
        """Forget all other files; their chunks stay."""
        self.by_sha256 = {k: file for k, file in self.by_sha256.items() if k in wanted}

    def chunks(self, xorb: str) -> list[tuple[int, int]]:
        if xorb not in self._chunks:
            self._chunks[xorb] = read_xorb(self.folder / xorb)
        return self._chunks[xorb]

    def token(self, right: str) -> str:
        token = f"xet_{right}_{len(self.tokens)}"
        self.tokens[token] = right
        return token

    def narrowed(self, file: XetFile, begin: int, end: int) -> tuple[int, list[Term]]:
        """Return the terms that hold bytes `begin` to `end`, and how many to skip in the first."""
        skip, at, found = 0, 0, []
        for term in file.terms:
            sizes = [n for _, n in self.chunks(term.xorb)[term.first : term.end]]
            first = last = None
            for i, size in enumerate(sizes):
                if at < end and at + size > begin:
                    first = i if first is None else first
                    skip = begin - at if not found and first == i else skip
                    last = i
                at += size
            if first is not None and last is not None:
                inside = sum(sizes[first : last + 1])
                found.append(Term(term.xorb, inside, term.first + first, term.first + last + 1))
        return skip, found


async def token(request: Request) -> Response:
    """Answer where the storage is, and with what it opens."""
    hub: Hub = request.app.state.hub
    right = request.path_params["right"]
    if not hub.xet:
        raise Refused(404, "Not found")
    if right == "read":
        readable(request)
    elif "create_pr" in request.query_params:
        target(request)
    else:
        writable(request)
    told = {"casUrl": f"{hub.storage_url}/cas", "accessToken": hub.cas.token(right)}
    expires = int(time.time()) + 3600
    headers = {
        "X-Xet-Cas-Url": told["casUrl"],
        "X-Xet-Access-Token": told["accessToken"],
        "X-Xet-Token-Expiration": str(expires),
    }
    return JSONResponse({**told, "exp": expires}, headers=headers)


def opened(request: Request, right: str) -> Hub:
    """Refuse whoever has no token of this storage; a token to write opens all."""
    hub: Hub = request.app.state.hub
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if hub.cas.tokens.get(given) not in ("write", right):
        raise Refused(401, "Unauthorized")
    return hub


async def put_xorb(request: Request) -> Response:
    hub = opened(request, "write")
    place = hub.cas.folder / request.path_params["xorb"]
    new = not place.exists()
    arriving = temporary(request)
    await receive(request, arriving)
    arriving.replace(place)
    return JSONResponse({"was_inserted": new})


async def put_shard(request: Request) -> Response:
    hub = opened(request, "write")
    for file in read_shard(await request.body()):
        if not all((hub.cas.folder / term.xorb).is_file() for term in file.terms):
            raise Refused(400, "A shard names a xorb that is not stored")
        hub.cas.keep(file)
    return JSONResponse({"result": 1})


async def reconstruction(request: Request) -> Response:
    """Answer which chunks make a file, or a range of it, and where they are."""
    hub = opened(request, "read")
    file = hub.cas.files.get(request.path_params["xet"])
    if file is None:
        raise Refused(404, "Not found")
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "bytes=0-"))
    begin = int(wanted[1]) if wanted else 0
    end = min(int(wanted[2]) + 1, file.nbytes) if wanted and wanted[2] else file.nbytes
    if begin >= end and file.nbytes:
        raise Refused(416, "Range not satisfiable")
    skip, terms = hub.cas.narrowed(file, begin, end)
    places: dict[str, list[dict[str, Any]]] = {}
    for xorb, first, last in runs(terms):
        chunks = hub.cas.chunks(xorb)
        places.setdefault(xorb, []).append(
            {
                "range": {"start": first, "end": last},
                "url": signed(hub, f"/xorb/{xorb}"),
                "url_range": {"start": chunks[first][0], "end": chunks[last][0] - 1},
            }
        )
    rows = [
        {
            "hash": t.xorb,
            "unpacked_length": t.nbytes,
            "range": {"start": t.first, "end": t.end},
        }
        for t in terms
    ]
    answer = {"offset_into_first_range": skip, "terms": rows, "fetch_info": places}
    return JSONResponse(answer)


def runs(terms: list[Term]) -> list[tuple[str, int, int]]:
    """Return the runs of chunks to fetch; no two meet, which the client could not tell apart."""
    found: list[tuple[str, int, int]] = []
    for xorb, first, end in sorted((t.xorb, t.first, t.end) for t in terms):
        if found and found[-1][0] == xorb and first <= found[-1][2]:
            found[-1] = (xorb, found[-1][1], max(end, found[-1][2]))
        else:
            found.append((xorb, first, end))
    return found


async def xorb(request: Request) -> Response:
    admit(request)
    place = request.app.state.hub.cas.folder / request.path_params["xorb"]
    if not place.is_file():
        raise Refused(404, "NoSuchKey")
    return Content(request, place, {})


async def rebuilt(hub: Hub, sha256: str) -> Blob | None:
    """Return the file of this digest if its chunks have come and make it; None otherwise."""
    file = hub.cas.by_sha256.get(sha256)
    if file is None:
        return None
    hub.signatures += 1
    place = hub.incoming / f"{hub.signatures}"
    asked = {
        "url": f"{hub.storage_url}/cas",
        "token": hub.cas.token("read"),
        "expires": int(time.time()) + 3600,
        "hash": file.xet,
        "nbytes": file.nbytes,
        "place": str(place),
    }
    await asyncio.to_thread(rebuild, asked, hub.cas.folder)
    if (await asyncio.to_thread(sha256_of, place)) != sha256:
        place.unlink()
        return None
    return hub.objects.take(place, sha256, file.xet)


def rebuild(asked: dict[str, object], folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", REBUILD],
        input=json.dumps(asked).encode(),
        env={"HF_HOME": str(folder / "home")},
        check=True,
        timeout=600,
    )


ROUTES = [Route(A + "/xet-{right}-token/{rev}", token)]
STORAGE = [
    Route("/cas/v1/xorbs/default/{xorb}", put_xorb, methods=["POST"]),
    Route("/cas/v1/shards", put_shard, methods=["POST"]),
    Route("/cas/v1/reconstructions/{xet}", reconstruction),
    Route("/xorb/{xorb}", xorb),
]
