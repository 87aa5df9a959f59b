"""The nodes of a plan: values that name tensors nobody has read yet.

The set is closed, so that a plan can be printed, hashed, costed and resumed. Each output tensor is
one small tree under a `Write`:

    Write ── Apply(method) ── Read …                       a method on weights
    Write ── Fold ─┬─ Read (base)
                   └─ Apply(method) ── Delta(Read, Read) … a method on deltas
    Write ── Fold ─┬─ Read (base)
                   └─ Apply(method) ── Product(Read, Read) … the same, on thin factors
    Write ── Same ── Read …                                copied where all sources agree
"""

from __future__ import annotations

from dataclasses import dataclass

from mdm_kit.maths.matrix import Matrix
from mdm_kit.methods.contract import MethodParams
from mdm_kit.words import DTYPES, TensorInfo


@dataclass(frozen=True, slots=True)
class Read:
    """A tensor of a source, in the source's dtype."""

    info: TensorInfo


@dataclass(frozen=True, slots=True)
class Delta:
    """What a source changed: its tensor minus the base's, in the precision of the merge."""

    source: Read
    base: Read


@dataclass(frozen=True, slots=True)
class Product:
    """What the adapter of `source` changes of the base: scale · left · right, as the tensor lies.

    `factors` are left (rows, rank) and right (rank, columns) as they are stored, both transposed
    where they are `turned`; None where the adapter leaves the tensor as it is.
    """

    source: str
    factors: tuple[Read, Read] | None
    turned: bool = False
    scale: float = 0.0


Input = Read | Delta | Product


@dataclass(frozen=True, slots=True)
class Start:
    """What an earlier merge has of `n` models, to go on from.

    `reads` are the sums it kept, in the order of the method's roles (`mdm_kit.planner.sums`). Where
    it kept none they are its weights, and `scale` is what the sum in them was multiplied by. With
    `takes_out` the node's inputs are models of the sums, to be taken out of them. `weights` are
    those of the inputs, where the method has weights, `energies` the squared norms of the changes
    to this tensor that stay, and `total` that of their sum.
    """

    reads: tuple[Read, ...]
    n: int
    scale: float | None = None
    takes_out: bool = False
    weights: tuple[float, ...] = ()
    energies: tuple[float, ...] = ()
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Apply:
    """A method on k inputs; `compute` is the dtype of its arithmetic, by torch name.

    Behind `mergekit:` it is what each step of mergekit's own formula is rounded to. `group` names
    the tensors that are solved together where the method needs their inner products: the only
    barrier of a plan. It is None for a method that knows its coefficients beforehand; `alone` is
    true where no other tensor can belong to it. `weights`, one per input, take the place of what
    the method would say, where a merge is patched. A matrix method has the linear maps of the
    tensor in `matrices`, and in `start` what it goes on from; a tensor that does not `count` is a
    copy of another one, which has no part in norms of its own.
    """

    method: str
    inputs: tuple[Input, ...]
    params: MethodParams
    compute: str
    group: str | None = None
    alone: bool = True
    weights: tuple[float, ...] | None = None
    matrices: tuple[Matrix, ...] | None = None
    start: Start | None = None
    counts: bool = True

    @property
    def is_factored(self) -> bool:
        """Whether every input is a product of factors: then all are, and none is formed whole."""
        return bool(self.inputs) and isinstance(self.inputs[0], Product)

    @property
    def reads(self) -> tuple[Read, ...]:
        """The source tensors the inputs are read from, less the base's."""
        return tuple(read for i in self.inputs for read in _reads_of(i))

    @property
    def models(self) -> tuple[str, ...]:
        """The name of each input's source."""
        return tuple(_model_of(i) for i in self.inputs)


def _reads_of(one: Input) -> tuple[Read, ...]:
    if isinstance(one, Product):
        return one.factors or ()
    return (one if isinstance(one, Read) else one.source,)


def _model_of(one: Input) -> str:
    return one.source if isinstance(one, Product) else _reads_of(one)[0].info.source


@dataclass(frozen=True, slots=True)
class Fold:
    """The base plus a merged delta."""

    base: Read
    delta: Apply


@dataclass(frozen=True, slots=True)
class Same:
    """Tensors that must be equal bit for bit; the first one is the result."""

    inputs: tuple[Read, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """An output tensor: what it is made of and the dtype (a safetensors name) it is rounded to.

    One that is `passed` is the donor's, because not every model has it; `without` are models that
    have no part in one that is merged of the others.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    root: Apply | Fold | Same
    passed: bool = False
    without: tuple[str, ...] = ()

    @property
    def n_elements(self) -> int:
        """How many elements the tensor has."""
        return self.nbytes * 8 // DTYPES[self.dtype].bits

    def apply(self) -> Apply | None:
        """Return the method's node, or None where the tensor is copied."""
        if isinstance(self.root, Same):
            return None
        return self.root.delta if isinstance(self.root, Fold) else self.root

    def reads(self) -> tuple[Read, ...]:
        """Return the source tensors this one is made of, each once: models, kept sums, base."""
        if isinstance(self.root, Same):
            found: list[Read] = list(self.root.inputs)
        else:
            apply = self.root.delta if isinstance(self.root, Fold) else self.root
            found = list(apply.reads)
            found += apply.start.reads if apply.start else ()
            if isinstance(self.root, Fold):
                found.append(self.root.base)
        return tuple({(r.info.source, r.info.name): r for r in found}.values())


def inputs_of(write: Write) -> tuple[tuple[Read, ...], bool]:
    """Return the source tensors in the order kernels take them, and whether the first is a base.

    What a sum begins with comes last. Factors do not lie as the tensor does, and are none of them.
    """
    root = write.root
    if isinstance(root, Same):
        return root.inputs, False
    apply = root.delta if isinstance(root, Fold) else root
    models = () if apply.is_factored else apply.reads
    start = apply.start.reads if apply.start else ()
    if isinstance(root, Fold):
        return (root.base, *models, *start), True
    return models, False
