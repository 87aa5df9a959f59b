"""A small read-only Hub on loopback, of the standard library alone.

Repositories live in memory. Every request is logged with the bytes its answer carried, and faults
can be ordered for the next request that matches. Large files are served as Git LFS is: with
`redirect`, from another origin, which refuses whoever sends it a token.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "hf_loopback_secret"  # noqa: S105 - opens nothing but this server


@dataclass
class Repo:
    """A repository: commits by id, each a map of path to bytes; branches and tags by name."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    redirect: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit, move the branch, return the commit's id."""
        sha = hashlib.sha1(repr((files, len(self.commits))).encode()).hexdigest()  # noqa: S324
        self.commits[sha] = files
        self.refs[branch] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """Return the commit a branch, tag, id or id's beginning stands for."""
        if revision in self.refs:
            return self.refs[revision]
        found = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class Request:
    """One line of the log; `sent` counts the body bytes of the answer."""

    method: str
    path: str
    range: str | None
    status: int
    sent: int
    authorized: bool


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the next `times` requests whose `METHOD path` matches."""

    pattern: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    ignore_range: bool = False
    cut_after: int | None = None
    corrupt: bool = False
    times: int = 1


def is_lfs(path: str) -> bool:
    return path.endswith(".safetensors")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about a client that hung up; a fault of ours is still printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Hub:
    """The server; `url` is its address."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self.on_path: dict[str, Callable[[], object]] = {}
        self.lock = threading.Lock()
        hub = self

        class Bound(_Handler):
            served = hub

        self._server = _Server(("127.0.0.1", 0), Bound)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def repo(self, name: str, files: dict[str, bytes], **settings: Any) -> str:
        """Create a repository with one commit; return its id."""
        self.repos[name] = Repo(**settings)
        return self.repos[name].commit(files)

    def fault(self, pattern: str, **what: Any) -> None:
        self.faults.append(Fault(pattern, **what))

    def take_fault(self, line: str) -> Fault:
        with self.lock:
            for i, fault in enumerate(self.faults):
                if re.search(fault.pattern, line):
                    left = fault.times - 1
                    rest = Fault(**{**vars(fault), "times": left})
                    self.faults[i : i + 1] = [rest] if left else []
                    return fault
        return Fault("")

    def bytes_sent(self, suffix: str) -> int:
        """Return how many body bytes of files with this ending were sent."""
        return sum(r.sent for r in self.log if r.path.endswith(suffix))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self._fault = self.served.take_fault(f"{self.command} {unquote(path)}")
        if self._fault.status:
            self._send(self._fault.status, b"fault", self._fault.headers)
        elif path in self.served.on_path:
            self.served.on_path[path]()
            self._send(200, b"done", {})
        elif match := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            self._cdn(match[1])
        elif match := re.fullmatch(r"/api/models/(.+?)/tree/([^/]+)", path):
            self._tree(unquote(match[1]), unquote(match[2]))
        elif match := re.fullmatch(r"/api/models/(.+?)(?:/revision/([^/]+))?", path):
            self._info(unquote(match[1]), unquote(match[2] or "main"))
        elif match := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            self._file(unquote(match[1]), unquote(match[2]), unquote(match[3]))
        else:
            self._refuse(404, "EntryNotFound")

    def _authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _visible(self, name: str) -> Repo | None:
        repo = self.served.repos.get(name)
        if repo is None or (repo.private and not self._authorized()):
            self._refuse(404 if self._authorized() else 401, "RepoNotFound")
            return None
        return repo

    def _info(self, name: str, revision: str) -> None:
        repo = self._visible(name)
        if repo is None:
            return
        sha = repo.resolve(revision)
        if sha is None:
            self._refuse(404, "RevisionNotFound")
            return
        blobs = parse_qs(urlsplit(self.path).query).get("blobs") == ["true"]
        siblings = []
        for path, data in repo.commits[sha].items():
            sibling: dict[str, object] = {"rfilename": path}
            if blobs:
                sibling["size"] = len(data)
                sibling["blobId"] = hashlib.sha1(data).hexdigest()  # noqa: S324
                if is_lfs(path):
                    digest = hashlib.sha256(data).hexdigest()
                    sibling["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        info = {"id": name, "modelId": name, "sha": sha, "siblings": siblings, "tags": []}
        body = json.dumps({**info, "private": repo.private, "gated": repo.gated and "manual"})
        self._send(200, body.encode(), {"Content-Type": "application/json"})

    def _tree(self, name: str, revision: str) -> None:
        repo = self._visible(name)
        if repo is None:
            return
        sha = repo.resolve(revision)
        if sha is None:
            self._refuse(404, "RevisionNotFound")
            return
        entries: list[dict[str, object]] = []
        for path, data in repo.commits[sha].items():
            oid = hashlib.sha1(data).hexdigest()  # noqa: S324
            entry: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": oid}
            if is_lfs(path):
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
            entries.append(entry)
        self._send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, path: str) -> None:
        repo = self._visible(name)
        if repo is None:
            return
        if repo.gated and not self._authorized():
            self._refuse(401, "GatedRepo")
            return
        sha = repo.resolve(revision)
        if sha is None:
            self._refuse(404, "RevisionNotFound")
            return
        data = repo.commits[sha].get(path)
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if data is None:
            self._refuse(404, "EntryNotFound", headers)
            return
        digest = hashlib.sha256(data).hexdigest()
        if is_lfs(path):
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{digest}"'}
            headers["ETag"] = f'"{digest}"'
            if repo.redirect:
                place = f"http://localhost:{self.served.port}/cdn/{digest}?X-Signature=secret"
                self._send(302, b"", {**headers, "Location": place})
                return
        else:
            headers["ETag"] = f'"{hashlib.sha1(data).hexdigest()}"'  # noqa: S324
        self._content(data, headers)

    def _cdn(self, digest: str) -> None:
        if self.headers.get("Authorization"):
            self._send(400, b"signed addresses take no token", {})
            return
        for repo in self.served.repos.values():
            for files in repo.commits.values():
                for data in files.values():
                    if hashlib.sha256(data).hexdigest() == digest:
                        self._content(data, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"})
                        return
        self._send(404, b"", {})

    def _content(self, data: bytes, headers: dict[str, str]) -> None:
        if self._fault.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None or self._fault.ignore_range:
            self._send(200, data, headers)
            return
        begin = int(wanted[1])
        end = min(int(wanted[2]) + 1 if wanted[2] else len(data), len(data))
        if begin >= len(data):
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        place = {"Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}
        self._send(206, data[begin:end], {**headers, **place})

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"error": code}).encode()
        self._send(status, body, {**(headers or {}), "X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, **self._fault.headers}.items():
            self.send_header(key, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = 0
        try:
            if self.command != "HEAD":
                cut = self._fault.cut_after
                whole = memoryview(body if cut is None else body[:cut])
                for at in range(0, len(whole), 65536):
                    self.wfile.write(whole[at : at + 65536])
                    sent += len(whole[at : at + 65536])
                if cut is not None:
                    self.close_connection = True
        except OSError:  # the client has heard enough
            self.close_connection = True
        finally:
            line = Request(
                self.command,
                unquote(urlsplit(self.path).path),
                self.headers.get("Range"),
                status,
                sent,
                self.headers.get("Authorization") is not None,
            )
            with self.served.lock:
                self.served.log.append(line)
