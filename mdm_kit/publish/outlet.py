"""The outlet to the Hub: one thread uploads finished shards while the next are being made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

from mdm_kit.errors import MdmError, UploadsLost
from mdm_kit.ledger.entries import FileEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.publish.bundle_files import BundleFile, bundle_files
from mdm_kit.publish.exposure import copied_from_hub, refuse_exposures, texts_within
from mdm_kit.publish.operations import adding_stored, is_stored
from mdm_kit.publish.publishing import publish
from mdm_kit.publish.repository import Place, make
from mdm_kit.publish.uploading import upload
from mdm_kit.run.outlet import SHARDS_AT_ONCE, Published
from mdm_kit.run.progress import Progress
from mdm_kit.words import human_bytes, shown

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A shard on its way, and what to call when it is there."""

    file: BundleFile
    arrived: Callable[[], None]


class HubOutlet:
    """Uploads shards as they come, and publishes the merge with one commit at the end.

    Used as a context manager. With `keeps`, shards stay on this machine, so a failed upload does
    not stop the merge: it is tried again at the end.
    """

    def __init__(self, api: HfApi, place: Place, progress: Progress, *, keeps: bool) -> None:
        """Take the place of a push; the commit will be on top of its head.

        Where it is missing it is made when the first shard is finished: a merge that cannot even
        begin leaves no repository behind.
        """
        self._api, self._to, self._progress, self._keeps = api, place, progress, keeps
        self._parcels: SimpleQueue[_Parcel | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._under_way = 0
        self._failure: Exception | None = None
        self._closed = False
        self._news: list[str] = []
        self._stored: dict[str, CommitOperationAdd] = {}
        # A daemon: an upload of gigabytes must not hold up somebody who presses Ctrl-C.
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)

    @property
    def place(self) -> str:
        """The repository: what is uploaded to one is not in another."""
        return self._to.push.repo

    @property
    def keeps(self) -> bool:
        """Whether shards stay on this machine, too."""
        return self._keeps

    def __enter__(self) -> Self:
        """Start uploading."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take nothing more; an upload under way is not heard of any more."""
        with self._changed:
            self._closed = True
        self._parcels.put(None)

    def await_room(self) -> None:
        """Return when one more shard may be begun."""
        self._await(SHARDS_AT_ONCE - 1)

    def settle(self) -> None:
        """Return when nothing is on its way any more."""
        with self._changed:
            n = self._under_way
        if n:
            self._progress.say(f"waiting for {n} upload(s)")
        self._await(0)

    def take(self, path: Path, entry: FileEntry, arrived: Callable[[], None]) -> None:
        """Put a finished shard into the queue."""
        self._await(SHARDS_AT_ONCE - 1)
        if self._failure is not None:
            return  # nothing is sent after a failure: do not wait for the Hub once more either
        try:
            self._to = make(self._api, self._to)
        except MdmError as error:
            if not self._keeps:
                raise
            self._failure = error  # told at the end, when it is tried once more
            return
        sha256 = entry.sha256.removeprefix("sha256:")
        file = BundleFile(path.name, entry.nbytes, sha256, path, is_large=True)
        with self._changed:
            self._under_way += 1
        self._parcels.put(_Parcel(file, arrived))

    def took(self, name: str, entry: FileEntry) -> None:
        """Count on a shard that was uploaded in an earlier run."""
        sha256 = entry.sha256.removeprefix("sha256:")
        self._stored[name] = adding_stored(name, entry.nbytes, sha256)

    def publish(self, folder: Path, manifest: Manifest) -> Published:
        """Commit the merge; see `publishing.publish`."""
        self._await(0)
        repo = self._to.push.repo
        try:
            texts = [*bundle_files(folder, manifest), *texts_within(folder, manifest)]
            refuse_exposures(folder, texts, copied_from_hub(manifest))
            self._to = make(self._api, self._to)
            return publish(
                self._api, self._to, folder, manifest, self._progress, dict(self._stored)
            )
        except UploadsLost:
            raise
        except MdmError as error:
            if not self._keeps:
                raise
            raise type(error)(
                f"{error}\nThe merge itself is finished, in {shown(str(folder))}; publish it with "
                f"mdm-kit push {shown(str(folder))} {shown(repo)}"
            ) from None

    def _await(self, at_most: int) -> None:
        """Wait until no more than so many shards are on their way, telling what arrives."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._news or self._is_quiet(at_most))
                news, self._news = self._news, []
                quiet, failure = self._is_quiet(at_most), self._failure
            for line in news:
                self._progress.say(line)
            if failure is not None and not self._keeps:
                raise failure
            if quiet:
                return

    def _is_quiet(self, at_most: int) -> bool:
        return self._under_way <= at_most or (self._failure is not None and not self._keeps)

    def _work(self) -> None:
        while (parcel := self._parcels.get()) is not None:
            news = None
            try:
                if self._failure is None and not self._closed:
                    news = self._send(parcel)
            except Exception as error:  # noqa: BLE001 -- raised in the thread that waits
                self._failure = error
                why = error if isinstance(error, MdmError) else type(error).__name__
                news = f"{parcel.file.name} could not be uploaded: {why}"
            with self._changed:
                self._under_way -= 1
                self._news += [news] if news else []
                self._changed.notify_all()

    def _send(self, parcel: _Parcel) -> str | None:
        file = parcel.file
        (operation,) = upload(self._api, self._to.push, [file])
        if not is_stored(operation):
            return None  # small enough to travel in the commit, from the disk
        with self._changed:
            if self._closed:
                return None
            self._stored[file.name] = adding_stored(file.name, file.nbytes, file.sha256)
        parcel.arrived()
        return f"uploaded {file.name}, {human_bytes(file.nbytes)}"
