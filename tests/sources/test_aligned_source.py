"""An aligned source against rows that were put together in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mdm_kit.errors import RoomError, UsageError
from mdm_kit.sources import MemorySource
from mdm_kit.sources.aligned import AlignedSource, as_stored
from mdm_kit.sources.row_filling import AlignedTensor
from mdm_kit.sources.row_map import MEAN, PADDING, ZERO, RowMap
from mdm_kit.sources.rows import Rows
from mdm_kit.words import DTYPES

NAMES = {d.torch_name: d.name for d in DTYPES.values()}
WIDTH = 3


def values(rows: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64).to(dtype)


def dense(models: list[Tensor], rows: RowMap, out: torch.dtype) -> Tensor:
    """What the map means, row by row, in float64."""
    made = torch.zeros(rows.n_rows, WIDTH, dtype=torch.float64)
    for i, (origin, row) in enumerate(zip(rows.origins, rows.rows, strict=True)):
        if origin >= 0:
            made[i] = models[origin][row].double()
        elif origin == MEAN:
            made[i] = sum(models[o][r].double() for o, r in rows.means[row]) / len(rows.means[row])
    made = made.to(out)
    mean = made.double()[torch.from_numpy(rows.real)].mean(0)
    made[torch.from_numpy(rows.origins == PADDING)] = mean.to(out)
    return made


def aligned(
    models: list[Tensor], rows: RowMap, out: str, *, copied: bool = False, me: int = 0
) -> tuple[AlignedSource, AlignedTensor]:
    sources = [
        MemorySource.from_tensors(f"m{i}", {"w": t, "other": torch.arange(4)})
        for i, t in enumerate(models)
    ]
    infos = [s.headers().tensors["w"] for s in sources]
    shape = (rows.n_rows, WIDTH)
    nbytes = rows.n_rows * WIDTH * DTYPES[out].bits // 8
    info = replace(infos[me], shape=shape, dtype=out, nbytes=nbytes)
    origins = [Rows(s, i, copied=copied) for s, i in zip(sources, infos, strict=True)]
    tensor = AlignedTensor(info, rows, WIDTH, origins)
    return AlignedSource(sources[me], {"w": tensor}, owned=True), tensor


def row_map(origins: list[int], rows: list[int], means: Mapping[int, object] = {}) -> RowMap:
    real = np.array([o != PADDING for o in origins])
    return RowMap(np.array(origins), np.array(rows), tuple(means.values()), real)  # type: ignore[arg-type]


@st.composite
def maps(draw: st.DrawFn) -> RowMap:
    """Runs of any origin, in any order, with at least one row that has a token."""
    origins, rows, means = [0], [draw(st.integers(0, 6))], []
    for _ in range(draw(st.integers(0, 6))):
        origin = draw(st.sampled_from([0, 0, 1, 1, ZERO, MEAN, PADDING]))
        length = draw(st.integers(1, 4))
        first = draw(st.integers(0, 7 - length))
        for k in range(length):
            origins.append(origin)
            if origin == MEAN:
                rows.append(len(means))
                means.append(((0, first + k), (1, draw(st.integers(0, 6)))))
            else:
                rows.append(first + k if origin >= 0 else 0)
    real = np.array([o != PADDING for o in origins])
    return RowMap(np.array(origins), np.array(rows), tuple(means), real)


@settings(max_examples=40, deadline=None)
@given(maps(), st.data(), st.booleans())
def test_every_range_holds_the_rows_of_the_map(
    rows: RowMap, data: st.DataObject, copied: bool
) -> None:
    models = [values(7, 0), values(7, 1)]
    source, tensor = aligned(models, rows, "F32", copied=copied)
    want = dense(models, rows, torch.float32).reshape(-1)
    n = len(want)
    with source:
        for _ in range(4):
            start = data.draw(st.integers(0, n))
            count = data.draw(st.integers(0, n - start))
            loan = source.lend(tensor.info, 4 * start, 4 * count)
            got = np.frombuffer(loan.view(), "<f4").copy()
            loan.release()
            assert got.tobytes() == want[start : start + count].numpy().tobytes()
        assert bytes(source.read(tensor.info)) == want.numpy().tobytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_rows_are_widened_and_means_rounded_once(dtype: torch.dtype) -> None:
    models = [values(4, 2, dtype), values(5, 3, torch.float32)]
    rows = row_map([0, 0, 1, MEAN, PADDING], [1, 2, 4, 0, 0], {0: ((0, 3), (1, 0))})
    source, tensor = aligned(models, rows, "F32")
    with source:
        got = torch.frombuffer(bytearray(source.read(tensor.info)), dtype=torch.float32)
    assert torch.equal(got.reshape(-1, WIDTH), dense(models, rows, torch.float32))


def test_rows_that_lie_together_are_lent_where_they_lie() -> None:
    models = [values(9, 0), values(2, 1)]
    source, tensor = aligned(models, row_map([0] * 8 + [1], [*range(8), 0]), "F32")
    with source:
        lent = source.lend(tensor.info, 0, 8 * WIDTH * 4)
        stored = source.stored.lend(source.stored.headers().tensors["w"], 0, 8 * WIDTH * 4)
        assert bytes(lent.view()) == bytes(stored.view())
        lent.release()
        stored.release()


def test_everything_else_passes_through() -> None:
    source, tensor = aligned([values(3, 0)], row_map([0, ZERO], [2, 0]), "F32")
    stored = as_stored(source)
    with source:
        assert source.headers().tensors["w"] == tensor.info
        other = source.headers().tensors["other"]
        assert bytes(source.read(other)) == bytes(stored.read(other))
        assert source.headers().files == stored.headers().files
        assert source.fingerprint() == stored.fingerprint()
        assert source.witness() == stored.witness()
        assert (source.name, source.origin()) == (stored.name, stored.origin())
        assert source.side_files() == ()


def test_a_source_that_is_lent_stays_open() -> None:
    source, tensor = aligned([values(3, 0)], row_map([0], [2]), "F32", copied=True)
    lent = AlignedSource(source.stored, {"w": tensor}, owned=False)
    lent.read(tensor.info)
    lent.close()
    source.stored.read(source.stored.headers().tensors["w"])
    with pytest.raises(UsageError, match="was closed"):
        lent.read(tensor.info)
    source.close()
    with pytest.raises(UsageError, match="was closed"):
        source.stored.read(source.stored.headers().tensors["w"])


def test_no_room_for_a_copy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    source, tensor = aligned([values(3, 0)], row_map([0], [2]), "F32", copied=True)
    with source, pytest.raises(RoomError, match="temporary file of 36 bytes"):
        source.read(tensor.info)


def test_runs_of_a_map() -> None:
    rows = row_map([0, 0, 1, ZERO, ZERO, 0], [0, 1, 2, 0, 0, 2])
    runs = [(r.start, r.stop, r.origin, r.first) for r in rows.runs(WIDTH, 1, 17)]
    assert runs == [(1, 6, 0, 1), (6, 9, 1, 6), (9, 15, ZERO, 0), (15, 17, 0, 6)]
    assert rows.runs_from(0) == 2
    assert rows.takes() == {0, 1, ZERO}
    assert not rows.is_identity(0, 6)
    assert row_map([1, 1], [0, 1]).is_identity(1, 2)
    assert rows.digest != row_map([0, 0, 1, ZERO, ZERO, 0], [0, 1, 2, 0, 0, 3]).digest
