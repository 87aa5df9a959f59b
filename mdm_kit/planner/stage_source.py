"""What a stage of a recipe will have made, as a model: all that a folder of it would say.

Headers and side files follow from its plan, byte for byte. The tensors are had once somebody makes
them: as they are asked for, or in a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mdm_kit.errors import UsageError
from mdm_kit.planner.config_truth import (
    embedding_rows,
    head_and_embeddings,
    one_dtype,
    true_config,
)
from mdm_kit.planner.layout import INDEX_NAME, Shard, index_json
from mdm_kit.sources import LEGAL, Origin, Source
from mdm_kit.sources.identity import digest_of
from mdm_kit.sources.stored import StoredSource
from mdm_kit.words import shown

if TYPE_CHECKING:
    from mdm_kit.sources import CheckpointFile
    from mdm_kit.sources.loan import Loan
    from mdm_kit.sources.safetensors_header import Header
    from mdm_kit.words import TensorInfo

CONFIG = "config.json"


class Maker(Protocol):
    """Whoever has the tensors of a stage; what it lends is what a folder would hold."""

    @property
    def is_far(self) -> bool:
        """Whether models it reads are not on this machine."""

    def lend(self, info: TensorInfo, start: int, nbytes: int) -> Loan:
        """Return bytes of a tensor; see `Source.lend`."""

    def expect(self, info: TensorInfo, start: int, nbytes: int) -> None:
        """Announce a `lend`."""

    def are_tied(self, head: str, embeddings: Sequence[str]) -> bool:
        """Whether the head has the bytes of one of these embeddings."""


class StageSource(StoredSource):
    """The result of a stage. Only its tensors need a maker."""

    def __init__(
        self,
        name: str,
        shards: Sequence[Shard],
        donor: Source,
        edits: Mapping[tuple[str, ...], Any],
        side_nbytes: int,
    ) -> None:
        """Take the stage's shards, its donor of side files, and what its layers change of config.

        `side_nbytes` is the room the side files take.
        """
        super().__init__(name)
        self.side_nbytes = side_nbytes
        self._made = {shard.name: shard for shard in shards}
        self._donor = donor
        self._edits = edits
        self._maker: Maker | None = None
        self._config: bytes | None = None

    def made_by(self, maker: Maker | None) -> None:
        """Have the tensors from `maker` from now on."""
        self._maker = maker

    def settle(self, config: bytes) -> None:
        """Take the config from where it was found out before."""
        self._config = config

    @property
    def is_settled(self) -> bool:
        """Whether the config is known from headers: what it says of ties may depend on weights."""
        return self._true_config(tied=False) == self._true_config(tied=None)

    def _true_config(self, *, tied: bool | None) -> bytes | None:
        raw = self._donor.side_file(CONFIG)
        shards = tuple(self._made.values())
        if raw is None:
            return None
        known = tied if head_and_embeddings(shards) is not None else None
        return true_config(
            raw,
            dtype=one_dtype(shards),
            tied=known,
            rows=embedding_rows(shards),
            edits=self._edits,
        )

    def _names(self) -> list[str]:
        index = [INDEX_NAME] if len(self._made) > 1 else []
        return [*self._made, *index, *self._donor.side_files()]

    def _small_file(self, name: str, limit: int) -> bytes:  # noqa: ARG002 -- they are our own
        if name == INDEX_NAME:
            return index_json(tuple(self._made.values()))
        data = self._settled_config() if name == CONFIG else self._donor.side_file(name)
        assert data is not None  # noqa: S101 -- the donor has listed it
        return data

    def _settled_config(self) -> bytes | None:
        """Return the config, as far as it can be known: without a maker ties are believed."""
        if self._config is not None:
            return self._config
        names = head_and_embeddings(tuple(self._made.values()))
        if self._maker is None or names is None or self.is_settled:
            return self._true_config(tied=None)
        self._config = self._true_config(tied=self._maker.are_tied(*names))
        return self._config

    def side_file(self, name: str) -> bytes | None:
        """Return a side file's bytes, a licence's of the donor, None for what neither has."""
        return self._donor.side_file(name) if name in LEGAL else super().side_file(name)

    def _weight_file(self, file: str) -> tuple[CheckpointFile, Header]:
        return self._described(file, self._made[file].nbytes)

    def _read_at(self, file: str, view: memoryview, offset: int) -> None:
        header = self._made[file].header
        if offset + len(view) > len(header):
            raise UsageError(f"{shown(self.name)}: only tensors are read of a stage")
        view[:] = header[offset : offset + len(view)]

    def read(
        self, info: TensorInfo, into: memoryview | bytearray | None = None, start: int = 0
    ) -> memoryview:
        """Fill `into` with the tensor's bytes from byte `start` on and return a view of it."""
        if into is None:
            into = bytearray(max(0, info.nbytes - start))
        view = memoryview(into).cast("B")
        loan = self.lend(info, start, len(view))
        try:
            view[:] = loan.view()
        finally:
            loan.release()
        return view

    def lend(self, info: TensorInfo, start: int, nbytes: int) -> Loan:
        """Return bytes of a tensor as its maker has them."""
        self._offset(info, start, nbytes)
        if self._maker is None:
            raise UsageError(f"{shown(self.name)} is a stage that nobody has begun to make")
        return self._maker.lend(info, start, nbytes)

    @property
    def is_far(self) -> bool:
        """Whether models that are read for it are not on this machine."""
        return self._maker is not None and self._maker.is_far

    def expect(self, info: TensorInfo, start: int, nbytes: int) -> None:
        """Announce a `lend`, so that what is far is fetched ahead."""
        if self._maker is not None:
            self._maker.expect(info, start, nbytes)

    def origin(self) -> Origin:
        """Return that it is made here, of other models."""
        return Origin("stage")

    def witness(self) -> str:
        """Return a digest of the headers; the models it is made of have witnesses of their own."""
        return digest_of([[f.name, f.header_sha256] for f in self.headers().files])

    def close(self) -> None:
        """Have the tensors from nobody."""
        self._maker = None
