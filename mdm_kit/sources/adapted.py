"""A model with a LoRA adapter on it: W + s·B·A, formed where it is read and never stored.

Tensors the adapter changes are offered as float32 (float64 where the model's are), because the
model's own dtype would round most of the change away; all others pass through. Only the two factors
of the tensors at hand are in memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from mdm_kit.sources.adapter_config import ADAPTER_CONFIG, read_adapter_config
from mdm_kit.sources.adapter_targets import Shift, targets_of
from mdm_kit.sources.identity import digest_of
from mdm_kit.sources.loan import Buffers
from mdm_kit.sources.side_files import TOKENIZER_FILES
from mdm_kit.sources.wrapped import WrappedSource
from mdm_kit.words import DTYPES

if TYPE_CHECKING:
    from torch import Tensor

    from mdm_kit.sources.adapter_config import AdapterConfig
    from mdm_kit.sources.adapter_targets import LowRank, Targets
    from mdm_kit.sources.loan import Loan
    from mdm_kit.sources.seam import Checkpoint, Origin, Source
    from mdm_kit.sources.streams import Streams
    from mdm_kit.words import TensorInfo

_TENSORS_HELD = 8
"""Tensors whose factors stay in memory: as many as are worked on at once, and more."""


class AdaptedSource(WrappedSource):
    """A source with an adapter on it. See `seam.Source`."""

    def __init__(self, name: str, model: Source, adapter: Source, *, owned: bool = True) -> None:
        """Offer `model` with `adapter`, which is closed with this; the model if it is `owned`.

        Nothing is read yet.
        """
        super().__init__(model, owned=owned)
        self.adapter = adapter
        self._name = name
        self._lock = threading.Lock()
        self._config: AdapterConfig | None = None
        self._targets: Targets | None = None
        self._checkpoint: Checkpoint | None = None
        self._buffers = Buffers()
        self._factors: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()
        self._announced: set[str] = set()

    @property
    def name(self) -> str:
        """The name the recipe gives the model."""
        return self._name

    @property
    def model(self) -> Source:
        """What the adapter is put on."""
        return self.stored

    @property
    def config(self) -> AdapterConfig:
        """What the adapter says of itself. Raises what a config that is not read raises."""
        self.adapter.headers()  # which says what is missing where it is no adapter
        with self._lock:
            if self._config is None:
                data = self.adapter.side_file(ADAPTER_CONFIG)
                self._config = read_adapter_config(self._name, data or b"")
            return self._config

    @property
    def targets(self) -> Targets:
        """What the adapter does to which tensors of the model."""
        if self._targets is not None:  # asked for with every tile
            return self._targets
        config = self.config
        with self._lock:
            if self._targets is None:
                adapter, model = self.adapter.headers(), self.model.headers()
                self._targets = targets_of(self._name, config, adapter.tensors, model.tensors)
            return self._targets

    def headers(self) -> Checkpoint:
        """Return the model's headers with the changed tensors as they are offered."""
        targets = self.targets
        with self._lock:
            if self._checkpoint is None:
                model, adapter = self.model.headers(), self.adapter.headers()
                tensors = {n: replace(t, source=self._name) for n, t in model.tensors.items()}
                for name, info in targets.replaced.items():
                    tensors[name] = replace(info, source=self._name, name=name)
                for name in targets.changed:
                    tensors[name] = _widened(tensors[name])
                files = (*model.files, *adapter.files)
                self._checkpoint = replace(model, tensors=tensors, files=files)
            return self._checkpoint

    def read(
        self, info: TensorInfo, into: memoryview | bytearray | None = None, start: int = 0
    ) -> memoryview:
        """Fill `into` with the tensor's bytes from byte `start` on and return a view of it."""
        if info.name not in self.targets.changed:
            source, stored = self._stored(info)
            return source.read(stored, into, start)
        view = memoryview(bytearray(max(0, info.nbytes - start)) if into is None else into)
        self._fill(info, start, view.cast("B"))
        return view.cast("B")

    def lend(self, info: TensorInfo, start: int, nbytes: int) -> Loan:
        """Lend bytes of a tensor: where they lie if the adapter does not change it."""
        if info.name not in self.targets.changed:
            source, stored = self._stored(info)
            return source.lend(stored, start, nbytes)
        loan, view = self._buffers.lend(nbytes)
        try:
            self._fill(info, start, view)
        except BaseException:
            loan.release()
            raise
        return loan

    def _fill(self, info: TensorInfo, start: int, view: memoryview) -> None:
        """Form a changed tensor's elements from byte `start` on; all of it is whole elements."""
        import torch

        from mdm_kit.maths.low_rank_rows import add_product
        from mdm_kit.sources.rows import numbers

        if not len(view):
            return
        width = DTYPES[info.dtype].bits // 8
        out = torch.frombuffer(view, dtype=torch.float64 if width == 8 else torch.float32)
        source, stored = self._stored(info)
        loan = source.lend(stored, *_in_stored(info, stored, start, len(view)))
        try:
            out.numpy()[:] = numbers(loan.view(), stored.dtype)
        finally:
            loan.release()
        change = self.targets.changed[info.name]
        if isinstance(change, Shift):
            held = numbers(self.adapter.read(change.vector), change.vector.dtype)
            first = start // width
            out.numpy()[:] += change.scale * held[first : first + len(out)]
            return
        add_product(out, start // width, *self.factors(info.name, change))

    def _stored(self, info: TensorInfo) -> tuple[Source, TensorInfo]:
        """Return the tensor as it is stored, without the adapter's change, and whose it is."""
        own = self.targets.replaced.get(info.name)
        if own is not None:
            return self.adapter, own
        stored = self.model.headers().tensors.get(info.name)
        if stored is not None:
            return self.model, stored
        return self.adapter, info  # a factor, as it is stored

    def stored_dtypes(self) -> dict[str, str]:
        """Return the dtypes of changed tensors as they are stored, by name."""
        tensors = self.headers().tensors
        return {name: self._stored(tensors[name])[1].dtype for name in self.targets.changed}

    def factors(self, tensor: str, change: LowRank) -> tuple[Tensor, Tensor]:
        """Return the change of a tensor as left (rows, rank) and right (rank, columns), its scale
        in the left one; float32, or float64 where the model's tensor is."""
        with self._lock:
            held = self._factors.get(tensor)
            if held is not None:
                self._factors.move_to_end(tensor)
                return held
        wide = self.headers().tensors[tensor].dtype == "F64"
        found = self._read_factors(change, wide=wide)
        with self._lock:
            self._factors[tensor] = found
            while len(self._factors) > _TENSORS_HELD:
                self._factors.popitem(last=False)
        return found

    def _read_factors(self, change: LowRank, *, wide: bool) -> tuple[Tensor, Tensor]:
        import torch

        from mdm_kit.sources.rows import numbers

        dtype = torch.float64 if wide else torch.float32
        found = []
        for info in (change.left, change.right):
            stored = numbers(self.adapter.read(info), info.dtype).reshape(info.shape)
            matrix = torch.tensor(stored, dtype=torch.float64)
            found.append(matrix.mT if change.turned else matrix)
        left, right = found
        return (left * change.scale).to(dtype).contiguous(), right.to(dtype).contiguous()

    @property
    def is_far(self) -> bool:
        """Whether some bytes, of model or adapter, are fetched as they are read."""
        return self.model.is_far or self.adapter.is_far

    def fetch_through(self, streams: Streams | None) -> None:
        """Read what is far through `streams`."""
        self.model.fetch_through(streams)
        self.adapter.fetch_through(streams)
        with self._lock:
            self._announced.clear()

    def expect(self, info: TensorInfo, start: int, nbytes: int) -> None:
        """Announce a `lend`: the model's bytes, and a tensor's factors before its first."""
        source, stored = self._stored(info)
        change = self.targets.changed.get(info.name)
        if change is None:
            source.expect(stored, start, nbytes)
            return
        source.expect(stored, *_in_stored(info, stored, start, nbytes))
        with self._lock:
            if info.name in self._announced:
                return
            self._announced.add(info.name)
        read = (change.vector,) if isinstance(change, Shift) else (change.left, change.right)
        for factor in read:
            self.adapter.expect(factor, 0, factor.nbytes)

    def _owner(self, file: str) -> Source:
        """Return whose file it is: an adapter's is called as no model's is."""
        own = any(f.name == file for f in self.adapter.headers().files)
        return self.adapter if own else self.model

    def seen_digest(self, file: str) -> str | None:
        """Return the sha256 (hex) of a far file all of whose bytes came by, else None."""
        return self._owner(file).seen_digest(file)

    def file_digest(self, file: str) -> str:
        """Return the sha256 (hex) of a weight file of the model or of the adapter."""
        return self._owner(file).file_digest(file)

    def side_files(self) -> tuple[str, ...]:
        """Return the model's side files, with the adapter's tokenizer where that has its own."""
        return tuple(sorted({*self._of_model(), *self._of_adapter()}))

    def side_file(self, name: str) -> bytes | None:
        """Return a side file's bytes; a tokenizer's are the adapter's where that has its own."""
        source = self._has_side_file(name)
        return None if source is None else source.side_file(name)

    def side_digest(self, name: str) -> str | None:
        """Return a digest of a side file."""
        source = self._has_side_file(name)
        return None if source is None else source.side_digest(name)

    def _has_side_file(self, name: str) -> Source | None:
        if name in self._of_adapter():
            return self.adapter
        return None if name in TOKENIZER_FILES and self._of_adapter() else self.model

    def _of_model(self) -> list[str]:
        own = self._of_adapter()
        return [n for n in self.model.side_files() if not (own and n in TOKENIZER_FILES)]

    def _of_adapter(self) -> list[str]:
        """Return the tokenizer's files an adapter has, where it brings tokens: rows of its own."""
        if not self._brings_tokens():
            return []
        return [n for n in self.adapter.side_files() if n != ADAPTER_CONFIG]

    def _brings_tokens(self) -> bool:
        model, replaced = self.model.headers().tensors, self.targets.replaced
        return any(info.shape != model[name].shape for name, info in replaced.items())

    def origin(self) -> Origin:
        """Return where the model lives, and where the adapter does."""
        return replace(self.model.origin(), adapter=self.adapter.origin())

    def witness(self) -> str:
        """Return a digest that changes when model or adapter change on this machine."""
        return digest_of(["adapted", self.model.witness(), self.adapter.witness()])

    def fingerprint(self) -> str:
        """Return the identity of model and adapter together."""
        return digest_of(["adapted", self.model.fingerprint(), self.adapter.fingerprint()])

    def content_fingerprint(self) -> str:
        """Return what `fingerprint` is for folders with the same files."""
        model, adapter = self.model.content_fingerprint(), self.adapter.content_fingerprint()
        return digest_of(["adapted", model, adapter])

    def close(self) -> None:
        """Close the adapter, and the model if it is owned."""
        self._factors.clear()
        self.adapter.close()
        super().close()


def adapted(source: Source) -> AdaptedSource | None:
    """Return the model with an adapter that a source is or offers the vocabulary of, else None."""
    from mdm_kit.sources.aligned import as_stored

    source = as_stored(source)
    return source if isinstance(source, AdaptedSource) else None


def _in_stored(info: TensorInfo, stored: TensorInfo, start: int, nbytes: int) -> tuple[int, int]:
    """Return which bytes of a stored tensor hold the same elements: the first, and how many."""
    width, own = DTYPES[info.dtype].bits // 8, DTYPES[stored.dtype].bits // 8
    return start // width * own, nbytes // width * own


def _widened(info: TensorInfo) -> TensorInfo:
    dtype = "F64" if info.dtype == "F64" else "F32"
    return replace(info, dtype=dtype, nbytes=info.n_elements * DTYPES[dtype].bits // 8)
