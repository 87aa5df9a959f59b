"""What safetensors itself refuses is refused here, however a header was mutated."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from mdm_kit.errors import IntegrityError
from mdm_kit.sources import parse_header

numbers = st.one_of(
    st.integers(-2, 10), st.sampled_from([2**31, 2**63, 2**64 - 1, 2**64, 10**30, 1.0, 1e300])
)
scalars = st.one_of(numbers, st.none(), st.booleans(), st.text(max_size=3))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
dtypes = st.sampled_from(["U8", "BF16", "F32", "F64", "F4", "F6_E2M3", "I64", "C64", "BOOL", "F5"])
spans = st.lists(st.integers(0, 16), min_size=2, max_size=2)
dims = st.lists(st.integers(0, 4), max_size=3)
entries = st.fixed_dictionaries(
    {"dtype": dtypes | values, "shape": dims | values, "data_offsets": spans | values},
    optional={"more": values},
)
headers = st.dictionaries(
    st.text(max_size=3) | st.just("__metadata__"), entries | values, max_size=3
)


@st.composite
def sound(draw: st.DrawFn) -> tuple[dict[str, object], bytes]:
    """Return a header that is correct, and its data."""
    header: dict[str, object] = {}
    end = 0
    for i in range(draw(st.integers(0, 4))):
        shape = draw(dims)
        size = 4
        for dim in shape:
            size *= dim
        header[f"t{i}"] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return header, bytes(end)


def agrees(file: bytes) -> None:
    """Assert that what we read of `file`, safetensors reads alike."""
    try:
        ours = parse_header("m", "f", file, len(file))
    except IntegrityError:
        return
    try:
        theirs = dict(deserialize(file))
    except SafetensorError as error:
        raise AssertionError(f"we read what safetensors refuses: {error}") from error
    assert {t.name for t in ours.tensors} == set(theirs)
    for info in ours.tensors:
        assert info.dtype == theirs[info.name]["dtype"]
        assert list(info.shape) == theirs[info.name]["shape"]
        assert file[slice(*info.span)] == bytes(theirs[info.name]["data"])


def framed(text: bytes, data: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + data


@settings(deadline=None, max_examples=300)
@given(headers, st.binary(max_size=16))
@example({"w": {"dtype": "U8", "shape": [2**64 - 1, 2**64 - 1, 0], "data_offsets": [0, 0]}}, b"")
@example({"w": {"dtype": "F4", "shape": [1], "data_offsets": [0, 0]}}, b"")
def test_headers_made_up(header: dict[str, object], data: bytes) -> None:
    agrees(framed(json.dumps(header).encode(), data))


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(sound(), st.data())
def test_sound_files_with_bytes_changed(
    file: tuple[dict[str, object], bytes], data: st.DataObject
) -> None:
    header, body = file
    whole = bytearray(framed(json.dumps(header).encode(), body))
    parse_header("m", "f", bytes(whole), len(whole))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.binary(max_size=2) | st.sampled_from([b"-", b"0", b"9", b",", b'"', b"}", b"1e1"])
        )
        if not whole:
            return
    agrees(bytes(whole))
