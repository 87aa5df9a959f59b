"""The index of a sharded checkpoint, and whether index and shards tell the same story."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError
from mdm_kit.sources.safe_path import plain_name
from mdm_kit.sources.strict_json import strict_json
from mdm_kit.sources.whereabouts import at, named
from mdm_kit.words import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mdm_kit.sources.safetensors_header import Header

MAX_INDEX_BYTES = 25_000_000
"""As a header's limit: an index says less about each tensor than the headers do."""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """A checked index: `weight_map` maps tensor to file, `files` are the shards, sorted by name."""

    weight_map: Mapping[str, str]
    files: tuple[str, ...]


def parse_index(source: str, file: str, data: bytes) -> ShardIndex:
    """Return the index in `data`; raise `IntegrityError` if it is broken or names a bad file."""
    if len(data) > MAX_INDEX_BYTES:
        raise IntegrityError(
            f"{at(source, file)}: expected an index of at most {MAX_INDEX_BYTES:,} bytes, "
            f"found {len(data):,}"
        )
    value = strict_json(data, at(source, file))
    weight_map = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise IntegrityError(
            f"{at(source, file)}: expected a weight_map that names a file for every tensor, "
            "found none; get the index again"
        )
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str):
            raise IntegrityError(
                f"{at(source, file, tensor)}: expected the name of a file in weight_map, "
                f"found {shown(repr(shard))}"
            )
    files = tuple(sorted(set(weight_map.values())))
    for shard in files:
        plain_name(source, shard)
        if not shard.endswith(".safetensors"):
            raise IntegrityError(
                f"{at(source, file)}: expected weight_map to name .safetensors files, "
                f"found '{shown(shard)}'; only safetensors checkpoints are read"
            )
    return ShardIndex(weight_map, files)


def check_shards(source: str, index: ShardIndex, headers: Mapping[str, Header]) -> None:
    """Raise one `IntegrityError` with every contradiction between the index and its shards.

    `headers` are those of the shards that exist; a shard of the index without one is absent.
    """
    homes: dict[str, list[str]] = {}
    for file, header in headers.items():
        for info in header.tensors:
            homes.setdefault(info.name, []).append(file)
    absent = [file for file in index.files if file not in headers]
    twice = [name for name, files in homes.items() if len(files) > 1]
    unlisted = [name for name in homes if name not in index.weight_map]
    astray = [
        name
        for name, file in index.weight_map.items()
        if file in headers and file not in homes.get(name, ())
    ]
    faults = [
        f"{words}: {named(names)}"
        for words, names in (
            ("shards the index names but that are absent", absent),
            ("tensors in two shards", twice),
            ("tensors the index lists but their shard does not hold", astray),
            ("tensors in a shard but not in the index", unlisted),
        )
        if names
    ]
    if faults:
        raise IntegrityError(
            f"{at(source)}: expected the index and the shards to agree, found "
            f"{'; '.join(faults)}. Get all files of one revision of the model again"
        )
