"""A model in a folder of this machine, a snapshot of the Hugging Face cache among them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.sources.identity import digest_of
from mdm_kit.sources.open_files import OpenFiles, open_regular, told
from mdm_kit.sources.safe_path import inside
from mdm_kit.sources.seam import CheckpointFile, Origin
from mdm_kit.sources.side_files import holds_side_files, is_side_file
from mdm_kit.sources.stored import StoredSource
from mdm_kit.sources.whereabouts import at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mdm_kit.sources.loan import Loan
    from mdm_kit.sources.safetensors_header import Header


class FolderSource(StoredSource):
    """A model folder. No message holds its path: paths carry names of people and machines."""

    def __init__(self, name: str, path: str | os.PathLike[str]) -> None:
        """Take the folder at `path`, which must exist; read nothing yet.

        Raises `SourceError` if there is no such folder.
        """
        super().__init__(name)
        try:
            self._root = Path(path).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            raise SourceError(
                f"{at(name)}: expected a folder, found none; check its path"
            ) from None
        if not self._root.is_dir():
            raise SourceError(f"{at(name)}: expected a folder, found a file; give its folder")
        self._files = OpenFiles(name, lambda file: inside(name, self._root, file))

    def origin(self) -> Origin:
        """Return the folder's real path, for this machine's eyes only."""
        return Origin("folder", path=str(self._root))

    def witness(self) -> str:
        """Return a digest over the real path and each file's name, size, time and inode.

        Not of the device: its number may change when the machine is started again.
        """
        files = [file.name for file in self.headers().files]
        indexes = [name for name in self._names() if name.endswith(".safetensors.index.json")]
        return digest_of(
            [
                str(self._root),
                [self._stamp(name) for name in sorted({*files, *indexes, *self.side_files()})],
            ]
        )

    def _stamp(self, name: str) -> list[str | int]:
        try:
            status = inside(self.name, self._root, name).stat()
        except OSError as error:
            raise told(error, self.name, name) from None
        return [name, status.st_size, status.st_mtime_ns, status.st_ino]

    def close(self) -> None:
        """Close every file."""
        self._files.close()

    def _names(self) -> Iterator[str]:
        try:
            for entry in sorted(self._root.iterdir()):
                if entry.is_file():
                    yield entry.name
                elif is_side_file(entry.name):
                    raise IntegrityError(
                        f"{at(self.name, entry.name)}: expected a regular file, found a folder, a "
                        "pipe or a link that leads nowhere; remove it or put the file there"
                    )
                elif holds_side_files(entry.name) and entry.is_dir():
                    inner = (f"{entry.name}/{file.name}" for file in sorted(entry.iterdir()))
                    yield from (name for name in inner if is_side_file(name))
        except OSError as error:
            raise told(error, self.name, None) from None

    def _small_file(self, name: str, limit: int) -> bytes:
        try:
            with os.fdopen(open_regular(inside(self.name, self._root, name)), "rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise told(error, self.name, name) from None
        if len(data) > limit:
            raise IntegrityError(
                f"{at(self.name, name)}: expected at most {limit:,} bytes, found more; "
                "this is not what its name says"
            )
        return data

    def _weight_file(self, file: str) -> tuple[CheckpointFile, Header]:
        return self._described(file, self._files.size(file))

    def _read_at(self, file: str, view: memoryview, offset: int) -> None:
        self._files.read_into(file, view, offset)

    def _lend_at(self, file: str, offset: int, nbytes: int) -> Loan | None:
        return self._files.lend(file, offset, nbytes)
