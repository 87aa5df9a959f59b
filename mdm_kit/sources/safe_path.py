"""The one safe join: a name from a stranger becomes a path inside the model's folder, or nothing.

The rules of POSIX and of Windows hold on every system, so a model that opens here opens there.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError
from mdm_kit.sources.whereabouts import at
from mdm_kit.words import shown

if TYPE_CHECKING:
    from pathlib import Path

MAX_NAME_BYTES = 255
"""The longest file name of ext4, APFS and NTFS."""

_FORBIDDEN = frozenset('<>:"|?*\\/')
"""What Windows forbids in a name; the colon also stands in drive letters and hidden streams."""

_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)", re.IGNORECASE
)
"""Device names of Windows: opening `nul.safetensors` there opens a device.

learn.microsoft.com/windows/win32/fileio/naming-a-file
"""


def plain_name(source: str, name: str) -> str:
    """Return `name` if it is one plain file name; raise `IntegrityError` saying what is wrong.

    Refused: separators, `..`, absolute paths, drives, control and direction characters, device
    names of Windows, a dot or space at the end, more than 255 bytes.
    """
    fault = _fault(name)
    if fault:
        raise IntegrityError(
            f"{at(source)}: expected a plain file name inside the model's folder, "
            f"found '{shown(name)}', which {fault}; do not use this model"
        )
    return name


def _fault(name: str) -> str:
    if not name:
        return "is empty"
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in name):
        return "holds a control or direction character"
    if name[0] in "/\\" or name[1:2] == ":":
        return "is an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "climbs out of the folder"
    if bad := sorted(_FORBIDDEN.intersection(name)):
        return f"holds {bad[0]!r}"
    if name[-1] in ". ":
        return "ends with a dot or a space"
    if _RESERVED.fullmatch(name.split(".", 1)[0].rstrip(" ")):
        return "is the name of a device on Windows"
    if len(name.encode("utf-8")) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return ""


def inside(source: str, root: Path, name: str) -> Path:
    """Return the real path of `name` (parts joined by `/`) under `root`, links followed.

    `root` must be a real path. A link may point elsewhere inside `root`; from a snapshot of the
    Hugging Face cache it may also point into that cache's blobs. Raises `IntegrityError` if a part
    is not plain or a link leaves. The file need not exist.
    """
    path = root.joinpath(*(plain_name(source, part) for part in name.split("/")))
    try:
        real = path.resolve()
        circle = real.is_symlink()  # from Python 3.13 on
    except (OSError, RuntimeError):  # until 3.12
        circle = True
    if circle:
        raise IntegrityError(
            f"{at(source, name)}: expected a file, found a link that leads in a circle; "
            "copy the file itself into the folder"
        )
    if not any(real.is_relative_to(home) for home in (root, *_blob_stores(root))):
        raise IntegrityError(
            f"{at(source, name)}: expected a file inside the model's folder, found a link that "
            "leaves it; copy the file itself into the folder"
        )
    return real


def _blob_stores(root: Path) -> tuple[Path, ...]:
    """Return where a snapshot of the Hugging Face cache may keep its bytes.

    `<cache>/models--org--name/snapshots/<commit>/file` links to `models--org--name/blobs/<hash>`,
    and since huggingface_hub 2 that may link on to `<cache>/blobs/<prefix>/<hash>`.
    """
    repo = root.parent.parent
    if root.parent.name != "snapshots" or not repo.name.startswith("models--"):
        return ()
    return repo / "blobs", repo.parent / "blobs"
