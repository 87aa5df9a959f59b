"""A Hub on loopback, for tests and benchmarks: what the stock client can read and write.

Repositories and refs live in memory, large files in a folder. Every request is logged, and faults
can be ordered for the next that match. Large files are served as Git LFS is: with `redirect`, from
another origin, which refuses whoever sends it a token.

    python tests/hub/server.py --folder DIR    serves DIR/owner/name as the repositories they are
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import secrets
import signal
import socket
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hub_commits
import hub_lfs
import hub_reading
import hub_writing
import hub_xet
import uvicorn
from hub_accounts import ACCOUNTS, FINE_TOKEN, OTHER_TOKEN, READ_TOKEN, TOKEN, Account
from hub_answers import Refused, refusal
from hub_faults import Fault, Faults, Request, Wire
from hub_store import Blob, Objects, Repo
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Host, Route, Router

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request as Asked

__all__ = ["FINE_TOKEN", "OTHER_TOKEN", "READ_TOKEN", "TOKEN", "Account", "Fault", "Hub", "Request"]


class Hub:
    """The server; `url` is its address.

    redirect           whether new repositories' large files come from another origin
    xet                whether clients may put files in Xet storage
    delay_s            waited before every answer, besides what a fault adds
    part_nbytes        large files come in parts of so many bytes, if larger than one
    signed_lifetime_s  how long a signed address opens what it names
    signed_uses        how often it does so, None for any number
    tree_page          entries in one page of a file listing
    commits_page       entries in one page of a history
    """

    def __init__(
        self, folder: Path | None = None, *, port: int = 0, redirect: bool = False
    ) -> None:
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}
        self.accounts = dict(ACCOUNTS)
        self.log: list[Request] = []
        self.faults = Faults()
        self.crashes: list[Exception] = []
        self.on_path: dict[str, Callable[[], object]] = {}
        self.redirect, self.xet, self.delay_s = redirect, True, 0.0
        self.part_nbytes, self.tree_page, self.commits_page = 64 << 20, 1000, 50
        self.signed_lifetime_s, self.signed_uses = 3600.0, None
        self.secret, self.signatures, self.signed_used = secrets.token_bytes(16), 0, Counter()
        self._folder = tempfile.TemporaryDirectory(dir=folder)
        self.incoming = Path(self._folder.name) / "incoming"
        stored = Path(self._folder.name) / "lfs"
        xorbs = Path(self._folder.name) / "xorbs"
        for place in (self.incoming, stored, xorbs):
            place.mkdir()
        self.objects, self.cas = Objects(stored), hub_xet.Cas(xorbs)
        self._serve(port)

    def _serve(self, port: int) -> None:
        """Start answering; whoever comes before the first answer waits in the socket."""
        listening = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = listening.getsockname()[1]
        self.url, self.storage_url = (f"http://{h}:{self.port}" for h in ("127.0.0.1", "localhost"))
        wire = Wire(self._app(), self)
        config = uvicorn.Config(
            wire, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        logging.getLogger("uvicorn.error").disabled = True  # cuts are ordered, crashes are kept
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), daemon=True)
        self._thread.start()

    def _app(self) -> Starlette:
        api = Router(
            [
                *hub_writing.ROUTES,
                *hub_commits.ROUTES,
                *hub_lfs.ROUTES,
                *hub_xet.ROUTES,
                *hub_reading.ROUTES,
                *hub_reading.LAST,
                Route("/{path:path}", self._other),
            ]
        )
        storage = Router([*hub_lfs.STORAGE, *hub_xet.STORAGE])
        hosts = [Host("localhost", storage), Host("127.0.0.1", api)]
        app = Starlette(routes=hosts, exception_handlers={Refused: refusal})
        app.state.hub = self
        return app

    async def _other(self, request: Asked) -> Response:
        """Answer what a test wants called, or that there is nothing."""
        call = self.on_path.get(request.url.path)
        if call is None:
            raise Refused(404, "Not found", "EntryNotFound")
        return JSONResponse(await asyncio.to_thread(call))

    def close(self) -> None:
        """Stop; raise the first error that was the server's own."""
        self._server.should_exit = True
        self._thread.join()
        self._folder.cleanup()
        if self.crashes:
            raise self.crashes[0]

    def go_away(self) -> None:
        """Stop answering, at once and for good; what comes until the socket is closed is cut."""
        self.fault("", cut_after=0, times=1_000_000)
        self._server.should_exit = self._server.force_exit = True

    @contextmanager
    def back(self, folder: Path) -> Iterator[Hub]:
        """Give another Hub with the same repositories, at another port."""
        hub = Hub(folder)
        hub.repos, hub.objects = self.repos, self.objects
        try:
            yield hub
        finally:
            hub.close()

    def repo(self, name: str, files: dict[str, bytes], **settings: Any) -> str:
        """Create a repository with one commit of these files; return its id."""
        self.repos[name] = Repo(self.objects, **{"redirect": self.redirect, **settings})
        return self.repos[name].commit(files)

    def repo_folder(self, name: str, folder: Path, **settings: Any) -> str:
        """The same of a folder's files; the large ones are served from where they lie."""
        repo = Repo(self.objects, **{"redirect": self.redirect, **settings})
        repo.refs["main"] = repo.add(self.objects.read_folder(folder), None, "Commit")
        self.repos[name] = repo
        return repo.refs["main"]

    def rename(self, old: str, new: str) -> None:
        """Move a repository; its old name leads to the new one."""
        self.repos[new] = self.repos.pop(old)
        self.renamed[old] = new

    def collect(self) -> None:
        """Forget the large files no commit names."""
        commits = [c for repo in self.repos.values() for c in repo.commits.values()]
        named = {b.sha256 for c in commits for b in c.files.values() if b.sha256}
        self.objects.keep_only(named)
        self.cas.keep_only(named)

    async def lfs_blob(self, sha256: str) -> Blob | None:
        """Return the large file of this digest, if it has come."""
        return self.objects.get(sha256) or await hub_xet.rebuilt(self, sha256)

    def fault(self, pattern: str, **what: Any) -> None:
        """Order a fault for the next request whose `METHOD path` matches; see `Fault`."""
        self.faults.append(Fault(pattern, **what))

    def requests(self, pattern: str) -> list[Request]:
        """Return the requests so far whose `METHOD path` matches, in the order they came."""
        return [r for r in self.log if re.search(pattern, f"{r.method} {r.path}")]

    def bytes_sent(self, suffix: str) -> int:
        """Return how many body bytes of files with this ending were sent."""
        return sum(r.sent for r in self.log if r.path.endswith(suffix))


def main() -> None:
    """Serve folders until told to stop; the first line printed is the address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="holds owner/name/files")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--redirect", action="store_true", help="large files from another origin")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="before every answer")
    words = parser.parse_args()
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # in every thread to come
    hub = Hub(port=words.port, redirect=words.redirect)
    for folder in sorted(words.folder.glob("*/*")):
        hub.repo_folder(folder.relative_to(words.folder).as_posix(), folder)
    hub.delay_s = words.delay_ms / 1000
    hub.on_path["/log"] = lambda: [asdict(line) for line in hub.log]
    print(hub.url, flush=True)  # noqa: T201
    signal.sigwait(stops)
    hub.close()


if __name__ == "__main__":
    main()
