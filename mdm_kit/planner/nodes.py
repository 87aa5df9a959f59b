"""The nodes of a plan: values that name tensors nobody has read yet.

The set is closed, so that a plan can be printed, hashed, costed and resumed. Each output tensor is
one small tree under a `Write`:

    Write ── Apply(method) ── Read …                       a method on weights
    Write ── Fold ─┬─ Read (base)
                   └─ Apply(method) ── Delta(Read, Read) … a method on deltas
    Write ── Same ── Read …                                copied where all sources agree
"""

from __future__ import annotations

from dataclasses import dataclass

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
class Apply:
    """A method on k inputs; `compute` is the dtype of its arithmetic, by torch name.

    Behind `mergekit:` it is what each step of mergekit's own formula is rounded to. `group` names
    the tensors that are solved together where the method needs their inner products: the only
    barrier of a plan. It is None for a method that knows its coefficients beforehand; `alone` is
    true where no other tensor can belong to it. `weights`, one per input, take the place of what
    the method would say, where a merge is patched.
    """

    method: str
    inputs: tuple[Read | Delta, ...]
    params: MethodParams
    compute: str
    group: str | None = None
    alone: bool = True
    weights: tuple[float, ...] | None = None


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
    """An output tensor: what it is made of and the dtype (a safetensors name) it is rounded to."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    root: Apply | Fold | Same

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
        """Return the source tensors this one is made of, each once: the models, then the base."""
        if isinstance(self.root, Same):
            found: list[Read] = list(self.root.inputs)
        else:
            apply = self.root.delta if isinstance(self.root, Fold) else self.root
            found = [i.source if isinstance(i, Delta) else i for i in apply.inputs]
            if isinstance(self.root, Fold):
                found.append(self.root.base)
        return tuple({(r.info.source, r.info.name): r for r in found}.values())
