"""A folder that is written in one go: it appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mdm_kit.bundle.stage import Stage, check_output
from mdm_kit.errors import OutputExists, RoomError
from mdm_kit.ledger.manifest import MANIFEST_NAME
from mdm_kit.words import shown


def check_new(out: Path) -> Path:
    """Return the absolute path of a folder that may be written, as `check_output` tells it.

    A finished merge is not replaced: nobody can have asked for that here.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 -- links are to be refused, not followed
    check_output(out, overwrite=True)
    if (out / MANIFEST_NAME).is_file():
        raise OutputExists(
            f"{shown(str(out))} is a finished merge; name a folder that does not exist yet"
        )
    return out


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Stage]:
    """Lend an empty stage whose files are `out` when the block ends, and nothing if it fails.

    Raises `OutputExists` where `out` holds anything or an interrupted merge into it stands there,
    and `RoomError` for whatever the system refuses, inside the block as well.
    """
    out = check_new(out)
    with Stage(out) as stage:
        if stage.journal.exists():
            raise OutputExists(
                f"an interrupted merge into {shown(str(out))} stands there; finish it, or name "
                "another folder"
            )
        try:
            stage.clear()
            yield stage
            stage.seal(overwrite=False)
        except OSError as error:
            raise RoomError(
                f"cannot write {shown(str(out))}: {error.strerror or error}; "
                "make room or name another place"
            ) from error
        finally:
            stage.discard()
