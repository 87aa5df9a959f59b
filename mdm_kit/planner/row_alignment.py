"""The row maps of a merge's vocabulary tensors, model by model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mdm_kit.planner.patterns import is_embedding, is_head, may_be_per_token
from mdm_kit.planner.survey import Surveyed
from mdm_kit.sources.row_filling import AlignedTensor
from mdm_kit.sources.row_map import MEAN, PADDING, RowMap
from mdm_kit.sources.rows import Rows
from mdm_kit.vocabulary import Fill, Filling, Owner, Vocabulary
from mdm_kit.words import DTYPES, TensorInfo

FEW_RUNS = 64
SHORT_RUN_NBYTES = 1 << 18
"""What is far is copied whole where it would be read in more runs than the one, shorter than the
other on average: requests of less cost more than the bytes between them."""


@dataclass(frozen=True)
class Placement:
    """A vocabulary of `n_rows` rows, the owners of tokens and the rules of a recipe."""

    vocabulary: Vocabulary
    owners: tuple[Owner, ...]
    rules: Mapping[str, Fill]
    n_rows: int
    donor: int
    base: int | None


class Alignment:
    """Which tensors of `models` are offered in the rows of `placement`, and how."""

    def __init__(self, models: Sequence[Surveyed], placement: Placement) -> None:
        """Make every map; nothing of a tensor is read."""
        self._models, self._placement = models, placement
        self._fillings: dict[frozenset[int], dict[int, RowMap]] = {}
        self._maps: dict[str, dict[int, RowMap]] = {}
        for name in dict.fromkeys(n for m in models for n in m.checkpoint.tensors):
            if may_be_per_token(name) and (maps := self._maps_of(name)):
                self._maps[name] = maps
        self._rows = {(i, n): self._stored(i, n) for n in self._maps for i in self._having(n)}

    @cached_property
    def moved(self) -> frozenset[str]:
        """The names of tensors that some model does not offer as it stores them."""
        return frozenset(self._maps)

    @property
    def averaged(self) -> frozenset[str]:
        """The names of tensors some row of which is a mean."""
        means = {MEAN, PADDING}
        return frozenset(
            n for n, m in self._maps.items() if any(x.takes() & means for x in m.values())
        )

    @property
    def unaligned(self) -> list[str]:
        """The names of embeddings and heads that are not aligned while others are."""
        if not self._maps:
            return []
        return [
            name
            for name in dict.fromkeys(n for m in self._models for n in m.checkpoint.tensors)
            if is_embedding(name) or is_head(name)
            for i, model in enumerate(self._models)
            if name in model.checkpoint.tensors and not self._width(i, name)
        ]

    @property
    def copied_nbytes(self) -> int:
        """Bytes of tensors that are copied before their rows are read."""
        return sum(rows.info.nbytes for rows in self._rows.values() if rows.copied)

    def tensors_of(self, model: Surveyed) -> dict[str, AlignedTensor]:
        """Return what a model offers in other rows than it stores."""
        me = [m.name for m in self._models].index(model.name)
        found: dict[str, AlignedTensor] = {}
        for name, maps in self._maps.items():
            if me not in maps or maps[me].is_identity(me, self._placement.owners[me].rows):
                continue
            tensor = self._offered(me, name, maps[me])
            if tensor.info.name != name and tensor.info.name in model.checkpoint.tensors:
                # A head read from its embedding: rows it lacks come from the others' heads.
                tensor = replace(tensor, info=replace(tensor.info, name=name))
            found[name] = tensor
        return found

    def _maps_of(self, name: str) -> dict[int, RowMap]:
        """Return the maps of all models that have a tensor, none where every one is identical."""
        having = self._having(name)
        widths = {self._width(i, name) for i in having}
        if len(widths) > 1 or not having:
            return {}  # `agreement` says what else is different
        if having not in self._fillings:
            p = self._placement
            filling = Filling(
                p.vocabulary,
                p.owners,
                p.rules,
                p.n_rows,
                donor=p.donor,
                base=p.base if p.base in having else None,
                having=having,
            )
            self._fillings[having] = {i: filling.map_of(i) for i in having}
        maps = self._fillings[having]
        owners = self._placement.owners
        if all(m.is_identity(i, owners[i].rows) for i, m in maps.items()):
            return {}
        return maps

    def _having(self, name: str) -> frozenset[int]:
        """Return the models that have the tensor with a row for each row of their embedding."""
        return frozenset(i for i in range(len(self._models)) if self._width(i, name))

    def _width(self, i: int, name: str) -> int:
        info = self._models[i].checkpoint.tensors.get(name)
        axis = None if info is None else _axis(info, self._placement.owners[i].rows)
        return 0 if info is None or axis is None else math.prod(info.shape[axis + 1 :])

    def _stored(self, i: int, name: str) -> Rows:
        model = self._models[i]
        info = model.checkpoint.tensors[name]
        maps = self._maps[name]
        runs = sum(m.runs_from(i) for m in maps.values())
        short = runs > FEW_RUNS and info.nbytes < runs * SHORT_RUN_NBYTES
        again = i in maps and PADDING in maps[i].takes()
        slow = model.source.is_far or model.source.origin().kind == "kept"
        return Rows(model.source, info, copied=slow and (short or again))

    def _offered(self, me: int, name: str, rows: RowMap) -> AlignedTensor:
        info = self._models[me].checkpoint.tensors[name]
        taken = rows.takes()
        dtypes = {self._models[i].checkpoint.tensors[name].dtype for i in taken if i >= 0}
        dtypes.add(info.dtype)
        dtype = info.dtype
        if len(dtypes) > 1 or taken & {MEAN, PADDING}:
            dtype = "F64" if "F64" in dtypes else "F32"
        axis = _axis(info, self._placement.owners[me].rows)
        assert axis is not None  # noqa: S101 -- only tensors with one have a map
        shape = (*info.shape[:axis], rows.n_rows, *info.shape[axis + 1 :])
        nbytes = math.prod(shape) * DTYPES[dtype].bits // 8
        offered = replace(
            info,
            shape=shape,
            dtype=dtype,
            nbytes=nbytes,
            span=(info.span[0], info.span[0] + nbytes),
        )
        origins = [self._rows.get((i, name)) for i in range(len(self._models))]
        return AlignedTensor(offered, rows, self._width(me, name), origins)


def _axis(info: TensorInfo, rows: int) -> int | None:
    """Return the axis with a row per token; what stands before it must count nothing."""
    for axis, n in enumerate(info.shape):
        if n == rows and rows and DTYPES[info.dtype].merges:
            return axis
        if n != 1:
            return None
    return None
