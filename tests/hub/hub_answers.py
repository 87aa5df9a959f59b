"""How the loopback Hub answers: refusals, content in ranges, pages."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from hub_store import BLOCK
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send


class Refused(Exception):
    """A request that is answered with an error, as the Hub words it."""

    def __init__(
        self, status: int, words: str, code: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(words)
        self.status = status
        self.headers = {**(headers or {}), "X-Error-Message": words}
        if code:
            self.headers["X-Error-Code"] = code


async def refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"error": str(error)}, error.status, error.headers)


class Content(Response):
    """Bytes or a file on disk, whole or one range of it, read block by block."""

    def __init__(self, request: Request, source: bytes | Path, headers: dict[str, str]) -> None:
        self.source, self.body = source, b""
        nbytes = len(source) if isinstance(source, bytes) else source.stat().st_size
        self.begin, self.end, self.status_code = 0, nbytes, 200
        headers = {**headers, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if wanted and any(wanted.groups()):
            self._narrow(*wanted.groups(), nbytes)
            last = f"{self.begin}-{self.end - 1}" if self.status_code == 206 else "*"
            headers["Content-Range"] = f"bytes {last}/{nbytes}"
        self.init_headers({**headers, "Content-Length": str(self.end - self.begin)})

    def _narrow(self, first: str, last: str, nbytes: int) -> None:
        self.begin = int(first) if first else max(nbytes - int(last), 0)
        self.end = min(int(last) + 1, nbytes) if first and last else nbytes
        self.status_code = 206
        if self.begin >= self.end:
            self.begin = self.end = 0
            self.status_code = 416

    def blocks(self) -> Iterator[bytes]:
        if isinstance(self.source, bytes):
            for at in range(self.begin, self.end, BLOCK):
                yield self.source[at : min(at + BLOCK, self.end)]
            return
        with self.source.open("rb", buffering=0) as file:
            file.seek(self.begin)
            left = self.end - self.begin
            while left:
                block = file.read(min(left, BLOCK))
                left -= len(block)
                yield block

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            gone = asyncio.ensure_future(hung_up(receive))
            try:
                for block in self.blocks():
                    await send({"type": "http.response.body", "body": block, "more_body": True})
                    await asyncio.sleep(0)
                    if gone.done():
                        return
            finally:
                gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def hung_up(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def page(request: Request, items: Sequence[object], nitems: int) -> JSONResponse:
    """Return one page of a listing, with a link to the next."""
    at = int(request.query_params.get("cursor", "0"))
    nitems = min(nitems, int(request.query_params.get("limit", nitems)))
    headers = {}
    if at + nitems < len(items):
        following = request.url.include_query_params(cursor=at + nitems)
        headers["Link"] = f'<{following}>; rel="next"'
    return JSONResponse(items[at : at + nitems], headers=headers)
