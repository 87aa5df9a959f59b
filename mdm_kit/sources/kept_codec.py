"""How the numbers of a kept tensor are stored: blocks of byte planes, each block alone readable.

A tensor's stream is its blocks, 2^18 elements each but the last, and a trailer with each block's
end as little-endian uint64, counted from the stream's start. A block is a CRC-32 of what follows,
then for each plane a kind and a length (uint8, uint32), then the planes: raw, one repeated byte, or
one zstd frame.
"""

from __future__ import annotations

import struct
import threading
import zlib
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from mdm_kit.errors import IntegrityError
from mdm_kit.maths.planes import RANKED, join, split
from mdm_kit.words import DTYPES

if TYPE_CHECKING:
    from mdm_kit.maths.planes import Bytes
    from mdm_kit.words import TensorInfo

BLOCK_ELEMENTS = 1 << 18
"""Small enough that a block and its base stay in the second-level cache, large enough for zstd."""

RAW, REPEATED, ZSTD = range(3)

_PLANE = struct.Struct("<BI")
_CRC_NBYTES = 4
END_NBYTES = 8

SMALL_LEVEL = 9
"""For headers and side files, which are compressed once and small."""


class _Coders(threading.local):
    """One compressor for each thread: they are not to be shared.

    Matches are rare in planes, so almost none are looked for (`min_match`, `hash_log`): on the
    sorted planes of a fine-tune of SmolLM2 that is as small as level 1 and 16 % faster; level 9
    is 5 % smaller and 10 times slower. A window of 2^14 makes zstd write new entropy tables every
    16 KiB, by which sorted planes get 9 % smaller again, at 0.86 of the speed.
    """

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(
                strategy=zstandard.STRATEGY_FAST,
                window_log=14,
                hash_log=6,
                chain_log=6,
                search_log=1,
                min_match=7,
                target_length=0,
                write_content_size=True,
            )
        )
        self.decompressor = zstandard.ZstdDecompressor()
        self.planes = np.empty(0, np.uint8)

    def room(self, nbytes: int) -> Bytes:
        if len(self.planes) < nbytes:
            self.planes = np.empty(nbytes, np.uint8)
        return self.planes[:nbytes]


_coders = _Coders()


def elements(info: TensorInfo) -> tuple[int, int]:
    """Return how many elements a tensor has for this format and their width in bytes.

    Elements below a byte are taken as the bytes they fill.
    """
    width = max(1, DTYPES[info.dtype].bits // 8)
    return info.nbytes // width, width


def n_blocks(info: TensorInfo) -> int:
    """Return how many blocks a tensor's stream has; none if it is empty."""
    return -(-elements(info)[0] // BLOCK_ELEMENTS)


def largest_block(count: int, width: int) -> int:
    """Return how many bytes a block of `count` elements takes at most."""
    return _CRC_NBYTES + width * (_PLANE.size + count)


def trailer(ends: list[int]) -> bytes:
    """Return what stands behind the blocks that end at `ends`."""
    return np.array(ends, "<u8").tobytes()


def encode_block(x: Bytes, base: Bytes | None, dtype: str) -> bytes:
    """Return the block of a tensor's bytes `x`, coded against the base's (as many) or alone.

    Both must lie at a multiple of the dtype's width. At most `BLOCK_ELEMENTS` numbers, at least 1.
    """
    width = max(1, DTYPES[dtype].bits // 8)
    n = len(x) // width
    if base is not None and np.array_equal(x, base):
        parts = [(REPEATED, b"\0")] * width
    else:
        room = _coders.room(n * width)
        split(x, base, width, room, ranked=dtype in RANKED)
        parts = [_encoded(room[i * n : (i + 1) * n]) for i in range(width)]
    heads = (_PLANE.pack(kind, len(data)) for kind, data in parts)
    body = b"".join((*heads, *(data for _, data in parts)))
    return zlib.crc32(body).to_bytes(_CRC_NBYTES, "little") + body


def _encoded(plane: Bytes) -> tuple[int, bytes]:
    if plane[0] == plane[-1] and not (plane != plane[0]).any():
        return REPEATED, plane[:1].tobytes()
    data = _coders.compressor.compress(plane.data)
    return (ZSTD, data) if len(data) < len(plane) else (RAW, plane.tobytes())


def decode_block(block: bytes, base: Bytes | None, dtype: str, into: Bytes, where: str) -> None:
    """Fill `into`, which lies at a multiple of the dtype's width, with the numbers of a block.

    Raises `IntegrityError`, beginning with `where`, for a block that is not `len(into)` bytes of
    this dtype; takes no more memory than these twice.
    """
    width = max(1, DTYPES[dtype].bits // 8)
    n = len(into) // width
    if zlib.crc32(memoryview(block)[_CRC_NBYTES:]).to_bytes(_CRC_NBYTES, "little") != block[:4]:
        raise _damaged(where, "a block with the checksum it was written with", "another")
    start = _CRC_NBYTES + width * _PLANE.size
    if len(block) < start:
        raise _damaged(where, f"a block of at least {start} bytes", str(len(block)))
    planes = []
    for kind, nbytes in _PLANE.iter_unpack(block[_CRC_NBYTES:start]):
        planes.append(_decoded(kind, block[start : start + nbytes], n, where))
        start += nbytes
    if start != len(block):
        raise _damaged(where, f"a block of {start:,} bytes", f"{len(block):,}")
    join(planes, base, into, ranked=dtype in RANKED)


def _decoded(kind: int, data: bytes, n: int, where: str) -> Bytes:
    if kind == REPEATED and len(data) == 1:
        return np.full(n, data[0], np.uint8)
    if kind == RAW and len(data) == n:
        return np.frombuffer(data, np.uint8)
    if kind == ZSTD:
        return np.frombuffer(_decompressed(data, n, where), np.uint8)
    raise _damaged(where, f"a plane of {n:,} bytes", f"{len(data):,} bytes of kind {kind}")


def _decompressed(data: bytes, nbytes: int, where: str) -> bytes:
    # The library makes room for whatever size the frame claims, before anything else is looked at.
    try:
        claimed = zstandard.frame_content_size(data)
        if claimed != nbytes:
            raise _damaged(where, f"{nbytes:,} bytes in a compressed part", f"{claimed:,}")
        found = _coders.decompressor.decompress(
            data, max_output_size=nbytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise _damaged(where, "a zstd frame", str(error)) from None
    if len(found) != nbytes:
        raise _damaged(where, f"{nbytes:,} bytes in a compressed part", f"{len(found):,}")
    return found


def pack(data: bytes) -> bytes:
    """Return a small file, compressed, with a checksum."""
    return zstandard.ZstdCompressor(level=SMALL_LEVEL, write_checksum=True).compress(data)


def packed_limit(limit: int) -> int:
    """Return how many bytes `pack` makes at most of `limit` bytes."""
    return limit + limit // 128 + 1024


def unpack(data: bytes, limit: int, where: str) -> bytes:
    """Return the small file in `data`; raise `IntegrityError` if it has more than `limit` bytes."""
    try:
        claimed = zstandard.frame_content_size(data)
    except zstandard.ZstdError as error:
        raise _damaged(where, "a zstd frame", str(error)) from None
    if not 0 <= claimed <= limit:
        raise _damaged(where, f"at most {limit:,} bytes", f"{claimed:,}")
    return _decompressed(data, claimed, where)


def _damaged(where: str, expected: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"{where}: expected {expected}, found {found}; the file is damaged or hostile, get it again"
    )
