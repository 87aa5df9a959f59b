"""The files of a LoRA adapter, in a folder or on the Hub: one file of weights and its config."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from mdm_kit.errors import SourceError
from mdm_kit.sources.adapter_config import ADAPTER_CONFIG
from mdm_kit.sources.checkpoint import Layout
from mdm_kit.sources.folder import FolderSource
from mdm_kit.sources.hub import HubSource
from mdm_kit.sources.identity import digest_of
from mdm_kit.sources.side_files import MAX_SIDE_FILE_BYTES, TOKENIZER_FILES
from mdm_kit.sources.stored import StoredSource
from mdm_kit.sources.whereabouts import at, named

if TYPE_CHECKING:
    from collections.abc import Iterable

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""A config that names every module of a large model has 100 kB."""


class AdapterFiles(StoredSource):
    """A source whose weights are an adapter's; beside its config it may have a tokenizer."""

    def _layout(self, present: frozenset[str]) -> Layout:
        return adapter_layout(self.name, present)

    def side_files(self) -> tuple[str, ...]:
        """Return the names of the config and of the tokenizer's files."""
        return tuple(
            sorted(n for n in self._names() if n == ADAPTER_CONFIG or n in TOKENIZER_FILES)
        )

    def side_file(self, name: str) -> bytes | None:
        """Return the bytes of the config or of a tokenizer's file, None for every other name."""
        if name not in self.side_files():
            return None
        limit = _MAX_CONFIG_BYTES if name == ADAPTER_CONFIG else MAX_SIDE_FILE_BYTES
        return self._small_file(name, limit)

    def side_digest(self, name: str) -> str | None:
        """Return the sha256 (hex) of such a file, None for every other name."""
        data = self.side_file(name)
        return None if data is None else hashlib.sha256(data).hexdigest()

    def content_fingerprint(self) -> str:
        """Return the fingerprint of the weights and of the config they are read by."""
        return digest_of([super().content_fingerprint(), self.side_digest(ADAPTER_CONFIG)])


class FolderAdapter(AdapterFiles, FolderSource):
    """An adapter in a folder."""


class HubAdapter(AdapterFiles, HubSource):
    """An adapter in a repository of the Hub."""


def adapter_layout(name: str, names: Iterable[str]) -> Layout:
    """Return where an adapter's weights are; raises `SourceError` where there is no adapter."""
    files = frozenset(names)
    if ADAPTER_CONFIG not in files:
        found = f"a whole model: {named(sorted(files), 3)}" if "config.json" in files else "neither"
        raise SourceError(
            f"{at(name)}: expected a LoRA adapter behind the '+', {ADAPTER_CONFIG} and "
            f"{ADAPTER_WEIGHTS}, found {found}; check the reference"
        )
    if ADAPTER_WEIGHTS not in files:
        pickled = "adapter_model.bin" in files
        raise SourceError(
            f"{at(name)}: expected {ADAPTER_WEIGHTS}, found "
            + ("only a pickle, which is never opened; " if pickled else "no weights; ")
            + "save the adapter anew with PEFT's save_pretrained, which writes safetensors"
        )
    return Layout(single=ADAPTER_WEIGHTS)
