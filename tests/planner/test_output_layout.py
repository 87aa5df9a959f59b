"""Where output bytes lie, judged by the safetensors library itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import deserialize

from mdm_kit.planner.layout import index_json, lay_out
from mdm_kit.planner.nodes import Same, Write
from mdm_kit.words import DTYPES

WHOLE_BYTES = [d for d in DTYPES.values() if d.bits % 8 == 0]


def write(name: str, shape: tuple[int, ...], dtype: str) -> Write:
    n = 1
    for dim in shape:
        n *= dim
    return Write(name, shape, dtype, n * DTYPES[dtype].bits // 8, Same(()))


# No header of a model can hold a tensor by the name of its own metadata.
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda name: name != "__metadata__"
)
writes = st.lists(
    st.builds(
        write,
        names,
        st.lists(st.integers(0, 5), max_size=4).map(tuple),
        st.sampled_from([d.name for d in WHOLE_BYTES if not d.name.startswith("F8_E8")]),
    ),
    max_size=12,
    unique_by=lambda w: w.name,
)


@given(writes, st.integers(1, 2000))
def test_safetensors_reads_every_shard_as_planned(planned: list[Write], limit: int) -> None:
    shards = lay_out(planned, limit)
    found = {}
    for shard in shards:
        data = shard.header + bytes(shard.nbytes - len(shard.header))
        for name, entry in deserialize(data):
            found[name] = (tuple(entry["shape"]), entry["dtype"])
        for placed in shard.tensors:
            width = DTYPES[placed.write.dtype].bits // 8
            assert placed.span[0] % width == 0, "a tensor must start at a multiple of its width"
            assert placed.span[1] - placed.span[0] == placed.write.nbytes
        tensors = sum(p.write.nbytes for p in shard.tensors)
        assert tensors <= limit or len(shard.tensors) == 1
    assert found == {w.name: (w.shape, w.dtype) for w in planned}


@given(writes)
def test_order_of_equal_widths_is_kept(planned: list[Write]) -> None:
    (shard,) = lay_out(planned, 1 << 40)
    for dtype in {w.dtype for w in planned}:
        kept = [p.write.name for p in shard.tensors if p.write.dtype == dtype]
        assert kept == [w.name for w in planned if w.dtype == dtype]


def test_index_maps_every_tensor_and_counts_bytes() -> None:
    planned = [write(f"t{i}", (4, i), "F32") for i in range(5)]
    shards = lay_out(planned, 64)
    index = json.loads(index_json(shards))
    assert index["metadata"] == {"total_parameters": 40, "total_size": 160}
    assert index["weight_map"] == {p.write.name: s.name for s in shards for p in s.tensors}


def test_one_shard_has_the_plain_name() -> None:
    assert [s.name for s in lay_out([], 10)] == ["model.safetensors"]


@pytest.mark.parametrize("n", [2, 11])
def test_many_shards_are_numbered_as_transformers_does(n: int) -> None:
    shards = lay_out([write(f"t{i}", (1,), "U8") for i in range(n)], 1)
    assert shards[0].name == f"model-00001-of-{n:05d}.safetensors"
    assert shards[-1].name == f"model-{n:05d}-of-{n:05d}.safetensors"


def test_a_header_stays_below_what_readers_accept() -> None:
    name = "x" * 10_000
    shards = lay_out([write(f"{name}{i}", (1,), "U8") for i in range(2_500)], 1 << 40)
    assert len(shards) == 2
    assert max(len(s.header) for s in shards) < 25_000_000
