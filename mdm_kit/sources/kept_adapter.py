"""A LoRA adapter kept in one file of a merge."""

from __future__ import annotations

from mdm_kit.sources.adapter_files import AdapterFiles
from mdm_kit.sources.kept import KeptSource


class KeptAdapter(AdapterFiles, KeptSource):
    """An adapter that a merge keeps, whole: it needs no base to be read."""
