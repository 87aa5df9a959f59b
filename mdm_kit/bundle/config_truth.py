"""Makes `config.json` say what was written.

The donor's file is copied byte for byte unless it would be wrong about the result; then only the
keys that are wrong change.
"""

from __future__ import annotations

import json
from typing import Any

from mdm_kit.words import OUT_DTYPES

_DTYPE_KEYS = ("dtype", "torch_dtype")  # transformers 5 and before
_PATH_KEY = "_name_or_path"
"""Where transformers 4 kept the folder a model was loaded from: a path of somebody's machine."""


def true_config(raw: bytes, *, dtype: str | None, tied: bool | None) -> bytes:
    """Return the bytes of `config.json` for a result.

    `dtype` is the torch name of the one floating dtype written, None where there are several.
    `tied` says whether output head and embedding are equal where both were written, None where
    not both were. A config that claims tied weights while they differ would make transformers
    drop the merged head; then the claim is taken back.
    """
    config: dict[str, Any] = json.loads(raw)
    parts = _parts(config)
    changed = [part.pop(_PATH_KEY) for part in parts if _PATH_KEY in part] != []
    if dtype is not None:
        changed |= _set_dtype(parts, dtype)
    if tied is False:
        changed |= _untie(config, parts)
    return (json.dumps(config, indent=2) + "\n").encode() if changed else raw


def _parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the config and every mapping inside it: models of several towers nest theirs."""
    found = [config]
    for part in found:  # grows as it goes
        found += [v for v in part.values() if isinstance(v, dict)]
    return found


def _set_dtype(parts: list[dict[str, Any]], dtype: str) -> bool:
    changed = False
    for part in parts:
        for key in _DTYPE_KEYS:
            stated = part.get(key)
            if isinstance(stated, str) and stated in OUT_DTYPES and stated != dtype:
                part[key] = dtype
                changed = True
    return changed


def _untie(config: dict[str, Any], parts: list[dict[str, Any]]) -> bool:
    stated = [part for part in parts if "tie_word_embeddings" in part]
    claims = [part for part in stated if part["tie_word_embeddings"]]
    # Some classes tie by default and say so only by silence.
    for part in claims if stated else [config]:
        part["tie_word_embeddings"] = False
    return bool(claims) or not stated
