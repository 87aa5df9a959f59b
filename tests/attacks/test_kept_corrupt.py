"""A kept model that was damaged, or made to harm: said, with its place, and never believed."""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zstandard
from blake3 import blake3
from families import ODD, write_family
from safetensors import safe_open

from mdm_kit.bundle.kept_file import KeptFile
from mdm_kit.errors import IntegrityError
from mdm_kit.run.keeping import Kept, keep_deltas
from mdm_kit.sources import FolderSource
from mdm_kit.sources.kept import KeptSource
from mdm_kit.sources.kept_codec import RAW, REPEATED, ZSTD, decode_block, encode_block, pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CUBE = "t/model.cube"
FLIPS = 700


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("family")
    write_family(root, ODD, n=1, n_shards=2)
    with FolderSource("base", root / "base") as base, FolderSource("m1", root / "m1") as source:
        keep_deltas([Kept(source, base, root / "kept.safetensors")], 1)
    return root


def everything(root: Path, path: Path) -> dict[str, bytes]:
    """Return all that can be read, tensors compared with their digests as `extract` does."""
    found: dict[str, bytes] = {}
    with FolderSource("base", root / "base") as base, KeptSource("m1", path, base) as source:
        for name, info in source.headers().tensors.items():
            found[name] = bytes(source.read(info))
            if blake3(found[name]).hexdigest() != source.tensor_digests[name]:
                raise IntegrityError(f"model 'm1', tensor '{name}': wrong bytes")
        for file in source.headers().files:
            found[file.name] = source.file_digest(file.name).encode()
        for name in source.side_files():
            found[name] = source.side_file(name) or b""
    return found


def refusal(family: Path, path: Path, wanted: dict[str, bytes]) -> str | None:
    """Return why a file is refused, None where it gives what is wanted."""
    try:
        found = everything(family, path)
    except IntegrityError as error:
        return str(error)
    assert found == wanted
    return None


def test_a_flipped_byte_is_noticed_or_does_not_matter(family: Path, tmp_path: Path) -> None:
    whole = (family / "kept.safetensors").read_bytes()
    wanted = everything(family, family / "kept.safetensors")
    start = 8 + int.from_bytes(whole[:8], "little")
    draw = np.random.default_rng(0)
    path = tmp_path / "kept.safetensors"
    unnoticed = 0
    for at in (*range(8), *draw.integers(8, len(whole), FLIPS).tolist()):
        data = bytearray(whole)
        data[at] ^= 1 << int(draw.integers(8))
        path.write_bytes(data)
        refused = refusal(family, path, wanted)
        if refused is None:
            assert at < start, f"byte {at} of the data was changed and nobody said so"
            unnoticed += 1
        else:
            assert "model 'm1'" in refused
            assert str(tmp_path) not in refused
    assert unnoticed < FLIPS / 20  # the source's own fingerprint, which is told and not used


def test_a_file_cut_short_is_refused(family: Path, tmp_path: Path) -> None:
    whole = (family / "kept.safetensors").read_bytes()
    path = tmp_path / "kept.safetensors"
    for nbytes in (0, 7, 8, 100, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:nbytes])
        with pytest.raises(IntegrityError, match=r"file 'kept\.safetensors'"):
            everything(family, path)


# files whose header is right and whose entries are not


def rewritten(
    family: Path,
    folder: Path,
    change: Callable[[dict[str, bytes]], object] = lambda _: None,
    facts: Callable[[dict], object] = lambda _: None,
) -> Path:
    """Write the kept model again, its entries and its facts changed."""
    with safe_open(family / "kept.safetensors", "np") as file:
        metadata = file.metadata()
        entries = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
    change(entries)
    said = json.loads(metadata["kept"])
    facts(said)
    metadata["kept"] = json.dumps(said)
    path = folder / "kept.safetensors"
    with KeptFile(path, list(entries), metadata) as kept:
        for name, data in entries.items():
            kept.begin(name)
            kept.append(data)
        kept.finish(metadata)
    return path


def test_written_again_unchanged_it_is_fine(family: Path, tmp_path: Path) -> None:
    found = everything(family, rewritten(family, tmp_path))
    assert found == everything(family, family / "kept.safetensors")


def unsized(nbytes: int) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(bytes(nbytes))


def bomb(nbytes: int) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(bytes(nbytes))


def lying(claimed: int) -> bytes:
    """A frame of 100,000 zeros whose header claims another size."""
    frame = bytearray(bomb(100_000))
    assert zstandard.frame_content_size(bytes(frame)) == 100_000
    frame[5:9] = claimed.to_bytes(4, "little")
    assert zstandard.frame_content_size(bytes(frame)) == claimed
    return bytes(frame)


FRAMES = {
    "more than it should": bomb(106),
    "a gigabyte": bomb(1 << 30),
    "no size": unsized(105),
    "no size, a lot": unsized(1 << 26),
    "less than it should": bomb(104),
    "a size that is not true": lying(105),
    "a size nobody has": b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + bytes(20),
    "not a frame": b"nothing that zstd would write",
    "nothing": b"",
    "two frames": bomb(105) + bomb(105),
    "a skippable frame": b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + bomb(105),
    "cut short": bomb(105)[:-2],
}


def block(*planes: tuple[int, bytes], claim: int | None = None) -> bytes:
    """Return a block with a good checksum, whatever is in it."""
    heads = [struct.pack("<BI", k, len(d) if claim is None else claim) for k, d in planes]
    body = b"".join((*heads, *(d for _, d in planes)))
    return zlib.crc32(body).to_bytes(4, "little") + body


GOOD = (REPEATED, b"\0")
BLOCKS = {
    **{name: block((ZSTD, frame), GOOD) for name, frame in FRAMES.items()},
    "a kind of its own": block((7, b"\0"), GOOD),
    "a short raw plane": block((RAW, bytes(104)), GOOD),
    "a long raw plane": block((RAW, bytes(106)), GOOD),
    "nothing repeated": block((REPEATED, b""), GOOD),
    "two bytes repeated": block((REPEATED, b"ab"), GOOD),
    "a plane too few": block(GOOD),
    "a plane too many": block(GOOD, GOOD, GOOD),
    "lengths beyond its end": block(GOOD, GOOD, claim=2**32 - 1),
    "empty": b"",
    "only a checksum": bytes(4),
    "a wrong checksum": bytes(4) + block(GOOD, GOOD)[4:],
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_that_are_not_what_they_should_be(name: str) -> None:
    into = np.empty(210, np.uint8)
    with pytest.raises(IntegrityError, match="^here: expected"):
        decode_block(BLOCKS[name], None, "BF16", into, "here")


def test_a_good_block_is_taken() -> None:
    x, into = np.arange(210, dtype=np.uint8), np.empty(210, np.uint8)
    decode_block(encode_block(x, None, "BF16"), None, "BF16", into, "here")
    assert np.array_equal(x, into)


@pytest.mark.parametrize("name", ["a gigabyte", "no size, a lot", "two bytes repeated"])
def test_a_bad_block_names_its_tensor(family: Path, tmp_path: Path, name: str) -> None:
    bad = BLOCKS[name]

    def change(entries: dict[str, bytes]) -> None:
        entries[CUBE] = bad + len(bad).to_bytes(8, "little")

    with pytest.raises(IntegrityError, match=r"'kept\.safetensors', tensor 'model\.cube'"):
        everything(family, rewritten(family, tmp_path, change))


@pytest.mark.parametrize("end", [0, 2**63, 2**64 - 1, 1 << 20])
def test_ends_of_blocks_outside_the_stream(family: Path, tmp_path: Path, end: int) -> None:
    def change(entries: dict[str, bytes]) -> None:
        entries[CUBE] = entries[CUBE][:-8] + end.to_bytes(8, "little")

    with pytest.raises(IntegrityError, match=r"model\.cube"):
        everything(family, rewritten(family, tmp_path, change))


ENTRIES: dict[str, Callable[[dict[str, bytes]], object]] = {
    "no tensor": lambda e: e.pop(CUBE),
    "no blocks": lambda e: e.update({CUBE: b""}),
    "no header": lambda e: e.pop("h/model-00001-of-00002.safetensors"),
    "no index": lambda e: e.pop("h/model.safetensors.index.json"),
    "a stranger": lambda e: e.update({"x/y": b""}),
    "a file off the list": lambda e: e.update({"f/modeling.py": pack(b"import os")}),
    "a way out": lambda e: e.update({"f/../config.json": pack(b"{}")}),
    "a header of zeros": lambda e: e.update({"h/model-00001-of-00002.safetensors": bomb(1 << 27)}),
    "a side file of zeros": lambda e: e.update({"f/config.json": bomb(1 << 27)}),
    "a side file without a size": lambda e: e.update({"f/config.json": unsized(1 << 27)}),
    "another header": lambda e: e.update(
        {"h/model-00001-of-00002.safetensors": e["h/model-00002-of-00002.safetensors"]}
    ),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_that_are_missing_or_strange(family: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(IntegrityError, match=r"model 'm1'.*file '"):
        everything(family, rewritten(family, tmp_path, ENTRIES[name]))


FIRST = "model-00001-of-00002.safetensors"
FACTS: dict[str, Callable[[dict], object]] = {
    "a file too long": lambda f: f["files"].update({FIRST: f["files"][FIRST] + 1}),
    "a file of 8 exabytes": lambda f: f["files"].update({FIRST: 2**63}),
    "a size that is a text": lambda f: f["files"].update({FIRST: "9"}),
    "a way out": lambda f: f["files"].update({"../x.safetensors": 9}),
    "an index that is none": lambda f: f.update(index="index.json"),
    "no files": lambda f: f.pop("files"),
    "tensors in a list": lambda f: f.update(tensors=[]),
    "a tensor more": lambda f: f["tensors"].update({"w": "+" + "0" * 64}),
    "a digest cut short": lambda f: f["tensors"].update({"model.cube": "+00"}),
    "a base without content": lambda f: f.update(base=["sha256:" + "0" * 64]),
    "another base": lambda f: f.update(base=["sha256:" + "0" * 64] * 2),
    "alone where it is not": lambda f: f["tensors"].update({"model.cube": "=" + "0" * 64}),
}


@pytest.mark.parametrize("name", FACTS)
def test_facts_that_are_not_true(family: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(IntegrityError, match="model 'm1'"):
        everything(family, rewritten(family, tmp_path, facts=FACTS[name]))


def test_a_checkpoint_is_no_kept_model(family: Path) -> None:
    path = family / "base" / "model.safetensors"
    with pytest.raises(IntegrityError, match="expected a kept model of format"):
        everything(family, path)
