"""The header of a safetensors file, as it stands before tensors that lie one behind another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mdm_kit.sources.safetensors_header import LENGTH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ALIGNMENT = 8
"""The header ends at a multiple of this, as the format's own writer has it."""


def written_header(
    tensors: Iterable[tuple[str, str, Sequence[int], int]],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return the length field, the JSON and its padding.

    `tensors` are names, safetensors dtypes, shapes and sizes in bytes, in the order of their data.
    `metadata` stands beside `{"format": "pt"}`, which transformers asks for.
    """
    entries: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    at = 0
    for name, dtype, shape, nbytes in tensors:
        entries[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [at, at + nbytes],
        }
        at += nbytes
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
