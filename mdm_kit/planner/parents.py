"""Where the models of a finished merge are now: given, where they were, or kept by the merge."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mdm_kit.errors import IntegrityError, MdmError, SourceError, UsageError
from mdm_kit.ledger.entries import SourceEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.planner.same_model import difference, part_of, parts_of
from mdm_kit.recipe import Scalar, WrongValue, did_you_mean, parse_reference
from mdm_kit.sources import FolderSource, Site, Source, open_source
from mdm_kit.sources.adapted import AdaptedSource
from mdm_kit.sources.adapter_files import FolderAdapter
from mdm_kit.sources.opening import open_adapter
from mdm_kit.words import AdapterRef, ModelRef, shown

if TYPE_CHECKING:
    from mdm_kit.sources.kept import KeptSource
    from mdm_kit.sources.kept_sums import KeptSums

LOCAL_NAME = ".mdm_local.json"
"""The map from digests to folders of this machine; it is never published."""


@dataclass(slots=True)
class Parents:
    """Opens the models of the merge at `site`, each once; close it, or use it in a `with`.

    `given` says by name where a model lives now, or is the model, open, and left open; it must be
    the model that was merged.
    """

    site: Site
    manifest: Manifest
    given: Mapping[str, str | Source] = field(default_factory=dict)
    _open: dict[str, Source] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a place for a model that the merge does not know."""
        known = [s.name for s in self.manifest.sources]
        for name in self.given:
            if name not in known:
                raise UsageError(
                    f"--source: this merge has no model {shown(name)!r}"
                    f"{did_you_mean(name, known)}; its models: {', '.join(map(shown, known))}"
                )

    def __enter__(self) -> Self:
        """Return the parents; what was opened is closed when the block ends."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every source."""
        for name, source in self._open.items():
            if self.given.get(name) is not source:
                source.close()

    def entry(self, name: str) -> SourceEntry:
        """Return the manifest's entry of a model or of the base."""
        return next(s for s in self.manifest.sources if s.name == name)

    def reference(self, name: str) -> str:
        """Return what the manifest calls a model, nothing for what is none of its models."""
        return next((s.reference for s in self.manifest.sources if s.name == name), "")

    def homes(self) -> dict[str, str]:
        """Return where folders of the merge lie on this machine, by digest."""
        digests = {
            part.rpartition("@")[2] for s in self.manifest.sources for part in parts_of(s.reference)
        }
        return {d: path for d, path in _paths(self.site.folder).items() if d in digests}

    @property
    def base(self) -> SourceEntry | None:
        """The manifest's entry of the base, None for a merge without one."""
        return next((s for s in self.manifest.sources if s.role == "base"), None)

    def open(self, names: Collection[str]) -> dict[str, Source]:
        """Return the sources of these names; raises `SourceError` naming all that cannot be had."""
        missing = []
        for name in names:
            try:
                self.source(name)
            except SourceError as error:
                missing.append(f"{shown(name)} ({shown(self.entry(name).reference)}): {error}")
        if missing:
            raise SourceError(
                "these models of the merge cannot be had:\n  "
                + "\n  ".join(missing)
                + "\nsay where they are with --source NAME=FOLDER or --source NAME=owner/name"
            )
        return {name: self._open[name] for name in names}

    def source(self, name: str) -> Source:
        """Return a model, opened at the first place that has it.

        Raises `SourceError` where no place has it, `IntegrityError` where a place given for it
        holds another model.
        """
        if name not in self._open:
            entry = self.entry(name)
            given = self._given(entry) if name in self.given else None
            self._open[name] = given or self._at_home(entry) or self._out_of_the_merge(entry)
        return self._open[name]

    def _given(self, entry: SourceEntry) -> Source:
        given = self.given[entry.name]
        source = _opened(given, entry.name) if isinstance(given, str) else given
        fault = None
        try:
            fault = difference(entry, source)
        finally:
            if source is not given and (fault or sys.exc_info()[0]):
                source.close()
        if fault:
            raise IntegrityError(
                f"--source {shown(entry.name)}: this is not the model that was merged: {fault}"
            )
        return source

    def _at_home(self, entry: SourceEntry) -> Source | None:
        """Return a model from where the merge read it, None if it is no longer there."""
        if entry.adapter is None:
            return self._part(entry, ModelRef(entry.repo or "", entry.commit), FolderSource)
        place = AdapterRef(entry.adapter.repo or "", entry.adapter.commit)
        adapter = self._part(part_of(entry, 1), place, FolderAdapter)
        return None if adapter is None else self._put_on(entry, adapter)

    def _part(
        self,
        entry: SourceEntry,
        place: ModelRef | AdapterRef,
        folder: type[FolderSource],
    ) -> Source | None:
        """Return a model or an adapter from its repository, or from the folder it was in."""
        if entry.repo is not None:
            try:
                if isinstance(place, AdapterRef):
                    source = open_adapter(place, entry.name)
                else:
                    source = open_source(place, entry.name)
                source.headers()
            except MdmError:
                if entry.kept is not None:
                    return None
                raise
            return source
        digest = entry.reference.rpartition("@")[2]
        path = _paths(self.site.folder).get(digest)
        if path is None or not Path(path).is_dir():
            return None
        found = folder(entry.name, path)
        try:
            if found.fingerprint() == digest:
                return found
        except MdmError:
            pass
        found.close()
        return None

    def _put_on(self, entry: SourceEntry, adapter: Source) -> Source | None:
        """Return an adapter on its model, which is the merge's base or is at home."""
        model = part_of(entry, 0)
        if self.base is not None and self.base.reference == model.reference:
            return AdaptedSource(entry.name, self.source(self.base.name), adapter, owned=False)
        home = self._part(
            replace(model, kept=None), ModelRef(model.repo or "", model.commit), FolderSource
        )
        if home is None:
            adapter.close()
            return None
        return AdaptedSource(entry.name, home, adapter)

    def _out_of_the_merge(self, entry: SourceEntry) -> Source:
        kept = self.kept(entry)
        if entry.adapter is None:
            return kept
        found = self._put_on(entry, kept)
        if found is None:
            raise SourceError("the model its adapter is put on is no longer where it was")
        return found

    def kept(self, entry: SourceEntry) -> KeptSource:
        """Return a model out of what the merge keeps.

        Raises `SourceError` where it is not kept, `IntegrityError` where a copy that was downloaded
        is not the one that was kept. Whoever asks closes it.
        """
        if entry.kept is None:
            raise SourceError("it is no longer where it was, and the merge kept only a reference")
        path = self._kept_file(entry.kept)
        if entry.adapter is not None:
            from mdm_kit.sources.kept_adapter import KeptAdapter

            return KeptAdapter(entry.name, path, None)
        base = None
        if entry.role == "model" and self.base is not None:
            base = self.source(self.base.name)
        from mdm_kit.sources.kept import KeptSource

        return KeptSource(entry.name, path, base)

    def sums(self, name: str) -> KeptSums:
        """Return the sums the merge keeps, called `name`, compared; whoever asks closes them.

        Raises `SourceError` where a file is missing, `IntegrityError` where one was changed.
        """
        from mdm_kit.sources.kept_sums import KeptSums

        files = {}
        for file in self.manifest.sums.files if self.manifest.sums else ():
            path = files[file] = self._kept_file(file)
            _same(
                file,
                self.manifest.files[file].sha256,
                _sha256(path),
                "in its folder",
                "get the original merge again",
            )
        return KeptSums(name, files)

    def _kept_file(self, name: str) -> Path:
        """Return where a kept model can be read; one that came from the Hub is compared first."""
        found = self.site.find(name)
        if found is None:
            raise SourceError(f"{shown(name)}, which keeps it, is missing from the merge")
        wanted = self.manifest.files.get(name)
        if found.sha256 is None or wanted is None:
            return self.site.path(name)
        where, to_do = "on the Hub", "it is not the model that was kept"
        _same(name, wanted.sha256, found.sha256, where, to_do)
        path = self.site.path(name)
        copy = _sha256(path)
        where, to_do = "in its downloaded copy", "remove that with `hf cache rm` and run again"
        _same(name, wanted.sha256, copy, where, to_do)
        return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same(name: str, wanted: str, found: str, where: str, to_do: str) -> None:
    if wanted != f"sha256:{found}":
        raise IntegrityError(
            f"{shown(name)}: expected {wanted}, found sha256:{found} {where}; {to_do}"
        )


def _opened(reference: str, name: str) -> Source:
    try:
        ref = parse_reference(Scalar(reference))
    except WrongValue as problem:
        raise UsageError(f"--source {shown(name)}: {problem}") from None
    return open_source(ref, name)


def _paths(folder: Path | None) -> dict[str, str]:
    """Return the local map; a map nobody can read is as good as none, and a stranger's is none."""
    if folder is None:
        return {}
    try:
        found = json.loads((folder / LOCAL_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)}
