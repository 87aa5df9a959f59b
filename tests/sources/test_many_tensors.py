"""A header of 50,000 tensors, as checkpoints with one tensor per expert have."""

from __future__ import annotations

import json

from mdm_kit.sources import parse_header

N = 50_000


def test_fifty_thousand_tensors() -> None:
    entries = {
        f"model.layers.{i // 10}.experts.{i % 10}.weight": {
            "dtype": "BF16",
            "shape": [4, 8],
            "data_offsets": [64 * i, 64 * (i + 1)],
        }
        for i in range(N)
    }
    text = json.dumps(entries).encode()
    prefix = len(text).to_bytes(8, "little") + text
    header = parse_header("m", "f", prefix, len(prefix) + 64 * N)
    assert [t.name for t in header.tensors] == list(entries)
    assert all(
        t.span == (len(prefix) + 64 * i, len(prefix) + 64 * (i + 1))
        for i, t in enumerate(header.tensors)
    )
