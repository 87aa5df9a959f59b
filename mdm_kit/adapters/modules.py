"""Which modules peft finds in a checkpoint: linear ones that take a pair, others saved whole."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mdm_kit.adapters.naming import architecture, naming, task_type
from mdm_kit.planner.fused import is_pack
from mdm_kit.planner.matrices import Matrices, ties
from mdm_kit.planner.patterns import is_embedding, is_head, layer_position
from mdm_kit.planner.survey import Surveyed
from mdm_kit.words import DTYPES

HEAD = "lm_head"
"""What transformers calls the head of every causal language model that ties it."""
_WEIGHT = ".weight"
_HEADLESS = re.compile(r"Classification$|(?<!LMHead)Model$|QuestionAnswering$")
"""Classes without a head over the vocabulary, whatever the config says of tying one."""
_RENAMED = re.compile(r"\.block_sparse_moe\.")
"""Where transformers 5 calls a mixture's modules otherwise; peft follows it for factors alone."""
_MAMBA = {"mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"}
"""Models whose `out_proj` peft refuses: its weight is read past the module."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear module; `tensor` is its weight, `turned` if that is stored as (in, out)."""

    tensor: str
    module: str
    turned: bool


class Modules:
    """The modules of a base, called as transformers' model of it calls them."""

    def __init__(self, base: Surveyed) -> None:
        """Look over the names."""
        tensors = base.checkpoint.tensors
        shapes = {name: info.shape for name, info in tensors.items()}
        config = base.config or {}
        self._matrices = Matrices(shapes, base.config, None)
        self._made = architecture(config)
        self._is_mamba = config.get("model_type") in _MAMBA
        self._tied = ties(base.config) and _HEADLESS.search(self._made) is None
        self._shapes = shapes
        self._merges = {name for name, info in tensors.items() if DTYPES[info.dtype].merges}
        self._members: dict[str, list[str]] = {}
        for name in shapes:
            self._members.setdefault(name.rpartition(".")[0], []).append(name)
        self._called = naming(config, shapes)

    @property
    def names(self) -> set[str]:
        """The names of all modules that have parameters of their own."""
        return {self.name_of(name) for name in self._shapes}

    @property
    def linear_names(self) -> list[str]:
        """The names of all linear modules that take factors."""
        return [found.module for name in self._shapes if (found := self.linear(name))]

    def called(self, tensor: str) -> str:
        """Return the name that a tensor has in transformers' model."""
        return self._called(tensor)

    def name_of(self, tensor: str) -> str:
        """Return the name of the module that a tensor is a parameter of."""
        return self._called(tensor).rpartition(".")[0]

    def linear(self, tensor: str) -> Linear | None:
        """Return the linear module whose weight a tensor is, or None."""
        shape = self._shapes[tensor]
        if tensor not in self._merges or not tensor.endswith(_WEIGHT):
            return None
        if len(shape) != 2 or is_pack(tensor, shape) or self._is_refused(tensor):
            return None
        maps = self._matrices.of(tensor)
        if not maps:
            return None
        return Linear(tensor, self.name_of(tensor), turned=maps[0].inner[0][1] != 1)

    def whole(self, tensor: str) -> tuple[str, ...]:
        """Return the tensors of the module that holds `tensor`, if it can be saved as a whole.

        () where it is no module by itself, a pack of experts, or a linear one, which has a pair.
        """
        module = tensor.rpartition(".")[0]
        members = self._members[module]
        if not module or any(other.startswith(f"{module}.") for other in self._members):
            return ()
        if any(self.linear(name) or self._is_pack(name) for name in members):
            return ()
        if _RENAMED.search(tensor) or self._lacks_weight(module):
            return ()
        if self._tied and is_embedding(tensor) and task_type(self._made) != "CAUSAL_LM":
            return ()  # what its head is called no file says
        return tuple(members)

    def tied_head(self, tensor: str) -> str | None:
        """Return the module that must be saved with an embedding, for it is the same tensor."""
        return HEAD if self._tied and is_embedding(tensor) else None

    def biases(self, linear: Iterable[str]) -> dict[str, str] | None:
        """Return the bias of every linear weight, None if one has none: peft wants all or none."""
        found = {name: f"{name.removesuffix(_WEIGHT)}.bias" for name in linear}
        return found if self._shapes.keys() >= set(found.values()) else None

    def why_not(self, tensor: str) -> str:
        """Return why no pair of factors is taken from a tensor."""
        if self._is_pack(tensor):
            return "experts in one tensor, for which peft has no module"
        if self._is_refused(tensor):
            return "a linear map that peft refuses in this model"
        if is_embedding(tensor):
            return "an embedding"
        if tensor not in self._merges:
            return "no floating-point numbers"
        if len(self._shapes[tensor]) < 2:
            return "a bias" if tensor.endswith("bias") else "a vector"
        return "no linear map that a module holds alone"

    def _lacks_weight(self, module: str) -> bool:
        """Whether a head's weight is tied, and only its bias is stored."""
        weight = f"{module}{_WEIGHT}"
        return is_head(weight) and weight not in self._shapes

    def _is_refused(self, tensor: str) -> bool:
        return self._is_mamba and tensor.endswith(".out_proj.weight")

    def _is_pack(self, tensor: str) -> bool:
        return is_pack(tensor, self._shapes[tensor])


def kind_of(tensor: str) -> str:
    """Return a tensor's name without the number of its layer."""
    at = layer_position(tensor)
    if at is None:
        return tensor
    return f"{at.stack}*{tensor[len(at.stack) + len(str(at.index)) :]}"


def shortest(modules: Collection[str], among: Iterable[str]) -> list[str]:
    """Return target names that choose `modules` alone `among` all: last parts where those do.

    peft takes a name for every module that ends with it.
    """
    others = {name.rpartition(".")[2] for name in among if name not in modules}
    lasts = {name: name.rpartition(".")[2] for name in modules}
    return sorted(
        {name if last in others or last.isdigit() else last for name, last in lasts.items()}
    )
