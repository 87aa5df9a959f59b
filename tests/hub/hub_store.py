"""What the loopback Hub keeps: large files on disk by their sha256, commits as maps of paths."""

from __future__ import annotations

import fnmatch
import hashlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

BLOCK = 1 << 20
LARGE = 10 << 20
"""From this many bytes on, a file is kept as Git LFS does, whatever it is called."""
ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in ("*.safetensors", "*.bin", "*.gguf", "*.npz", "*.pt", "*.zst", "*tfevents*")
).encode()


@dataclass(frozen=True, slots=True)
class Blob:
    """A file's content: bytes, or for Git LFS a file on disk with its sha256."""

    content: bytes | Path
    nbytes: int
    oid: str
    sha256: str | None = None
    xet: str | None = None

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit; `files` may be changed by tests that play a lying server."""

    oid: str
    parent: str | None
    title: str
    description: str
    author: str
    date: str
    files: dict[str, Blob]


def git_oid(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()  # noqa: S324


def pointer(sha256: str, nbytes: int) -> bytes:
    """Return what git itself keeps of a file in Git LFS."""
    words = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {nbytes}\n"
    return words.encode()


def is_lfs(path: str, nbytes: int, attributes: bytes = ATTRIBUTES) -> bool:
    """Return whether a file belongs in Git LFS; empty files never do."""
    if nbytes == 0:
        return False
    patterns = [row.split()[0] for row in attributes.decode().splitlines() if "filter=lfs" in row]
    names = (path, path.rpartition("/")[2])
    matched = any(fnmatch.fnmatchcase(name, p) for p in patterns for name in names)
    return matched or nbytes > LARGE


class Objects:
    """The Git LFS objects of all repositories, in one folder, by their sha256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Blob] = {}

    def get(self, sha256: str) -> Blob | None:
        return self._known.get(sha256)

    def keep_only(self, wanted: set[str]) -> None:
        """Forget all others, as the Hub may do with what no commit names."""
        self._known = {k: blob for k, blob in self._known.items() if k in wanted}

    def adopt(self, path: Path, sha256: str, nbytes: int, xet: str | None = None) -> Blob:
        """Keep a file where it lies; return its blob."""
        oid = git_oid("blob", pointer(sha256, nbytes))
        return self._known.setdefault(sha256, Blob(path, nbytes, oid, sha256, xet))

    def take(self, temporary: Path, sha256: str, xet: str | None = None) -> Blob:
        """Move a complete file in; return its blob."""
        place = temporary.replace(self.folder / sha256)
        return self.adopt(place, sha256, place.stat().st_size, xet)

    def put(self, path: str, data: bytes, attributes: bytes = ATTRIBUTES) -> Blob:
        """Keep `data` as a file called `path` is kept."""
        if not is_lfs(path, len(data), attributes):
            return Blob(data, len(data), git_oid("blob", data))
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._known:
            (self.folder / digest).write_bytes(data)
        return self.adopt(self.folder / digest, digest, len(data))

    def read_folder(self, folder: Path) -> dict[str, Blob]:
        """Return a folder's files, the large ones left where they lie."""
        files = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name, nbytes = path.relative_to(folder).as_posix(), path.stat().st_size
            if is_lfs(name, nbytes):
                files[name] = self.adopt(path, sha256_of(path), nbytes)
            else:
                files[name] = self.put(name, path.read_bytes())
        return files


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class Repo:
    """A repository: commits by id; branches, tags and pull requests by name."""

    objects: Objects
    private: bool = False
    gated: Literal[False, "auto", "manual"] = False
    redirect: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)
    granted: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def commit(self, files: dict[str, bytes], branch: str = "main", title: str = "Commit") -> str:
        """Add a commit of exactly these files, move the branch, return the commit's id."""
        attributes = files.get(".gitattributes", ATTRIBUTES)
        blobs = {path: self.objects.put(path, data, attributes) for path, data in files.items()}
        with self.lock:
            self.refs[branch] = self.add(blobs, self.refs.get(branch), title)
        return self.refs[branch]

    def add(
        self,
        files: dict[str, Blob],
        parent: str | None,
        title: str,
        description: str = "",
        author: str = "org",
    ) -> str:
        """Add a commit to which no branch leads yet; return its id."""
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        tree = [(path, blob.oid) for path, blob in sorted(files.items())]
        told = repr((tree, parent, title, description, author, date, len(self.commits)))
        oid = git_oid("commit", told.encode())
        self.commits[oid] = Commit(oid, parent, title, description, author, date, files)
        return oid

    def resolve(self, revision: str) -> str | None:
        """Return the commit a branch, tag, pull request, id or id's beginning stands for."""
        for names in (self.refs, self.tags, self.pulls):
            if revision in names:
                return names[revision]
        found = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        return found[0] if len(found) == 1 else None

    def history(self, oid: str | None) -> list[Commit]:
        """Return a commit and its forebears, newest first."""
        found = []
        while oid is not None:
            found.append(self.commits[oid])
            oid = found[-1].parent
        return found
