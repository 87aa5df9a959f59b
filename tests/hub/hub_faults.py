"""The wire of the loopback Hub: every request in a log, and faults where a test orders them."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import Callable

    from server import Hub
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Request:
    """One line of the log, written when the request comes and filled in while it is answered.

    `sent` and `received` count body bytes; `port` is the client's: the same for a kept connection.
    """

    method: str
    path: str
    range: str | None
    authorized: bool
    port: int
    status: int = 0
    sent: int = 0
    received: int = 0


@dataclass
class Fault:
    """What goes wrong with `times` requests whose `METHOD path` matches, after `skip` of them.

    status        answered instead of doing it; its body is `fault`
    lost          with a status: done all the same, and only then answered with that status
    headers       in place of the answer's own
    ignore_range  the whole file, whatever range was asked
    cut_after     the connection closes after so many bytes of the answer's body
    cut_upload    the connection closes after so many bytes of the request's body
    corrupt       the last byte of the answer's body has one bit wrong
    delay_s       waits before doing anything
    before        is called before doing anything: to move a branch, to kill a client
    """

    pattern: str
    status: int = 0
    lost: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    ignore_range: bool = False
    cut_after: int | None = None
    cut_upload: int | None = None
    corrupt: bool = False
    delay_s: float = 0.0
    before: Callable[[], object] | None = None
    times: int = 1
    skip: int = 0


class Faults(list[Fault]):
    """The faults still to come."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def take(self, line: str) -> Fault:
        """Return the fault of this request; one that does nothing if there is none."""
        with self._lock:
            for fault in self:
                if not re.search(fault.pattern, line):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if not fault.times:
                    self.remove(fault)
                return fault
        return Fault("")


class CutOff(BaseException):
    """The connection is to be closed half way; the application is not to answer it with a 500."""


class Wire:
    """What stands between the socket and the application."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self.app, self.hub = app, hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope["raw_path"].decode("ascii")
        headers = Headers(scope=scope)
        line = Request(
            scope["method"],
            unquote(raw),
            headers.get("Range"),
            "Authorization" in headers,
            scope["client"][1],
        )
        self.hub.log.append(line)
        fault = self.hub.faults.take(f"{line.method} {line.path}")
        scope = {**scope, "path": raw}  # routed as it was sent: a revision is one segment
        if fault.ignore_range:
            scope["headers"] = [(k, v) for k, v in scope["headers"] if k != b"range"]
        exchange = Exchange(fault, line, receive, send)
        try:
            await self._meet(exchange, scope)
        except CutOff:
            await exchange.close()
        except ClientDisconnect:
            pass
        except Exception as error:  # told when the Hub is closed, whatever the client made of it
            self.hub.crashes.append(error)
            raise

    async def _meet(self, exchange: Exchange, scope: Scope) -> None:
        fault = exchange.fault
        await asyncio.sleep(self.hub.delay_s + fault.delay_s)
        if fault.before:
            await asyncio.to_thread(fault.before)
        if fault.status and not fault.lost:
            await exchange.drain()
        else:
            await self.app(scope, exchange.receive, exchange.send)
        if fault.status:
            await exchange.refuse()


class Exchange:
    """One request and its answer, counted, and spoilt as the fault says."""

    def __init__(self, fault: Fault, line: Request, receive: Receive, send: Send) -> None:
        self.fault, self.line = fault, line
        self._receive, self._send = receive, send
        self._started = False
        self._nbytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self.line.received += len(message.get("body", b""))
        limit = self.fault.cut_upload
        if limit is not None and self.line.received > limit:
            raise CutOff
        return message

    async def drain(self) -> None:
        """Read a request to its end, so that the connection can be used again."""
        while (await self.receive()).get("more_body", False):
            pass

    async def send(self, message: Message) -> None:
        if self.fault.status:
            return  # the work is done and its answer lost
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message["headers"]))
            headers.update(self.fault.headers)
            self._nbytes = int(headers.get("Content-Length", "0"))
            self.line.status = message["status"]
            self._started = True
            await self._send({**message, "headers": headers.raw})
            return
        body = message.get("body", b"")
        last = self.line.sent + len(body) == self._nbytes
        if self.fault.corrupt and body and last:
            body = body[:-1] + bytes([body[-1] ^ 1])
        limit = self.fault.cut_after
        if limit is not None and self.line.sent + len(body) > limit:
            body = body[: limit - self.line.sent]
        self.line.sent += len(body)
        await self._send({**message, "body": body, "more_body": True})
        if limit is not None and self.line.sent >= limit:
            raise CutOff
        if not message.get("more_body", False):
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def refuse(self) -> None:
        self.line.status, self.line.sent = self.fault.status, len(b"fault")
        given = {"Content-Length": "5", **self.fault.headers}
        headers = [(k.lower().encode(), v.encode()) for k, v in given.items()]
        start = {"type": "http.response.start", "status": self.fault.status, "headers": headers}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": b"fault", "more_body": False})

    async def close(self) -> None:
        """Leave the answer unfinished: the server closes the connection then."""
        if not self._started:
            headers = [(b"content-length", b"1")]
            await self._send({"type": "http.response.start", "status": 500, "headers": headers})
