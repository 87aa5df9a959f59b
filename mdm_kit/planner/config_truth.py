"""Makes `config.json` say what was written.

The donor's file is copied byte for byte unless it would be wrong about the result; then only the
keys that are wrong change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mdm_kit.planner.layout import Shard
from mdm_kit.planner.patterns import is_embedding, is_head
from mdm_kit.words import DTYPES, OUT_DTYPES

_DTYPE_KEYS = ("dtype", "torch_dtype")  # transformers 5 and before
_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where configs of several towers describe the language model."""
_PATH_KEY = "_name_or_path"
"""Where transformers 4 kept the folder a model was loaded from: a path of somebody's machine."""


def one_dtype(shards: Sequence[Shard]) -> str | None:
    """Return the torch name of the one floating dtype that is written, None for several."""
    dtypes = {p.write.dtype for s in shards for p in s.tensors if DTYPES[p.write.dtype].merges}
    return DTYPES[dtypes.pop()].torch_name if len(dtypes) == 1 else None


def head_and_embeddings(shards: Sequence[Shard]) -> tuple[str, tuple[str, ...]] | None:
    """Return the names of the output head and of what it may be tied to; None without both."""
    shapes = {p.write.name: p.write.shape for s in shards for p in s.tensors}
    embeddings = tuple(n for n in shapes if is_embedding(n))
    heads = [n for n in shapes if is_head(n) and shapes[n] in {shapes[e] for e in embeddings}]
    return (heads[0], embeddings) if len(heads) == 1 else None


def embedding_rows(shards: Sequence[Shard]) -> int | None:
    """Return how many rows the embedding has that is written, None where it has no one answer."""
    shapes = {p.write.name: p.write.shape for s in shards for p in s.tensors}
    rows = {shape[0] for n, shape in shapes.items() if is_embedding(n) and len(shape) == 2}
    return rows.pop() if len(rows) == 1 else None


def true_config(
    raw: bytes,
    *,
    dtype: str | None,
    tied: bool | None,
    rows: int | None = None,
    edits: Mapping[tuple[str, ...], Any] | None = None,
) -> bytes:
    """Return the bytes of `config.json` for a result.

    `dtype` is the torch name of the one floating dtype written, None where there are several.
    `tied` says whether output head and embedding are equal where both were written, None where
    not both were. A config that claims tied weights while they differ would make transformers
    drop the merged head; then the claim is taken back. `rows` is how many rows the embedding has,
    None where there are several: what the config calls `vocab_size` in its own or its text model's
    part is that. `edits` are new values of keys, by the way that leads to them through nested
    mappings.
    """
    config: dict[str, Any] = json.loads(raw)
    parts = _parts(config)
    changed = [part.pop(_PATH_KEY) for part in parts if _PATH_KEY in part] != []
    if dtype is not None:
        changed |= _set_dtype(parts, dtype)
    if tied is False:
        changed |= _untie(config, parts)
    if rows is not None:
        changed |= _set_rows(config, parts, rows)
    for path, value in (edits or {}).items():
        changed |= _edit(config, path, value)
    return (json.dumps(config, indent=2) + "\n").encode() if changed else raw


def _parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the config and every mapping inside it: models of several towers nest theirs."""
    found = [config]
    for part in found:  # grows as it goes
        found += [v for v in part.values() if isinstance(v, dict)]
    return found


def _edit(config: dict[str, Any], path: tuple[str, ...], value: Any) -> bool:
    part = config
    for key in path[:-1]:
        part = part[key]
    changed = part.get(path[-1]) != value
    part[path[-1]] = value
    return bool(changed)


def _set_dtype(parts: list[dict[str, Any]], dtype: str) -> bool:
    changed = False
    for part in parts:
        for key in _DTYPE_KEYS:
            stated = part.get(key)
            if isinstance(stated, str) and stated in OUT_DTYPES and stated != dtype:
                part[key] = dtype
                changed = True
    return changed


def _set_rows(config: dict[str, Any], parts: list[dict[str, Any]], rows: int) -> bool:
    text = [config[k] for k in _TEXT_PARTS if isinstance(config.get(k), dict)]
    stated = [p["vocab_size"] for p in (config, *text) if _is_size(p.get("vocab_size"))]
    if not stated or set(stated) == {rows}:
        return False
    for part in parts:
        # A tower of its own, as a vision model's, may state another size and mean it.
        if part.get("vocab_size") in stated:
            part["vocab_size"] = rows
    return True


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _untie(config: dict[str, Any], parts: list[dict[str, Any]]) -> bool:
    stated = [part for part in parts if "tie_word_embeddings" in part]
    claims = [part for part in stated if part["tie_word_embeddings"]]
    # Some classes tie by default and say so only by silence.
    for part in claims if stated else [config]:
        part["tie_word_embeddings"] = False
    return bool(claims) or not stated
