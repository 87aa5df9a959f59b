"""The sums a merge keeps beside its weights, so that models can join it later."""

from __future__ import annotations

import os

from mdm_kit.bundle.shard_file import digest_file
from mdm_kit.bundle.stage import Stage
from mdm_kit.ledger.entries import FileEntry
from mdm_kit.run.progress import Progress
from mdm_kit.run.sums import Sums
from mdm_kit.sources import KEPT_FOLDER
from mdm_kit.words import counted


def keep_sums(sums: Sums, stage: Stage, progress: Progress) -> dict[str, FileEntry]:
    """Put the files of sums that are to be kept into the model folder; return them by name.

    A crash behind this finds them where they grew, too.
    """
    if not sums.keeps:
        return {}
    progress.say(f"keeping {counted(len(sums.files), 'file')} of sums")
    folder = stage.model / KEPT_FOLDER
    folder.mkdir(exist_ok=True)
    found = {}
    for file in sums.files:
        here, there = sums.path(file), folder / file.name
        try:
            os.link(here, there)
        except OSError:  # a file system without second names
            here.rename(there)
        found[f"{KEPT_FOLDER}/{file.name}"] = FileEntry(
            file.nbytes, digest_file(there, 0, []).sha256
        )
    return found
