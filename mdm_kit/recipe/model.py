"""The recipe as a value: what was asked for, every part of it with its place in the text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from mdm_kit.recipe.scalars import Scalar

if TYPE_CHECKING:
    from mdm_kit.recipe.push import Push
    from mdm_kit.recipe.references import LocatedRef
    from mdm_kit.recipe.tokenizer import Tokenizer
    from mdm_kit.words import DType, ModelRef, Place


@dataclass(frozen=True, slots=True)
class Gradient:
    """A list of scalars: values along the layers, or a plain list where a method wants one."""

    values: tuple[Scalar, ...]
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Filtered:
    """A value for the tensors whose name holds `filter`; None and `*` mean every tensor."""

    filter: str | None
    value: Scalar | Gradient
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Filters:
    """Filtered values in order; the first one that fits a tensor's name wins."""

    entries: tuple[Filtered, ...]
    place: Place = field(compare=False)


Setting: TypeAlias = Scalar | Gradient | Filters
"""What stands behind a parameter's name, not yet converted to any type."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named setting; `place` is the name's."""

    name: str
    setting: Setting
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One of the models to merge, under the name it has everywhere from here on.

    `named` says whether the recipe gives that name or it was made from the reference;
    `layer_range` is the range of layers a slice names, the second one not included.
    """

    located: LocatedRef
    name: str
    parameters: tuple[Parameter, ...]
    place: Place = field(compare=False)
    named: bool = False
    layer_range: tuple[int, int] | None = None

    @property
    def ref(self) -> ModelRef:
        """The model itself."""
        return self.located.ref

    def setting(self, name: str) -> Setting | None:
        """Return this model's own setting of a parameter, or None."""
        return find_setting(self.parameters, name)


@dataclass(frozen=True, slots=True)
class Slice:
    """Layers of the result: as many of each of its models, merged with one another.

    Models without a `layer_range` are taken whole. `base_model` is None where the recipe's counts.
    """

    models: tuple[ModelEntry, ...]
    parameters: tuple[Parameter, ...] = ()
    base_model: LocatedRef | None = None
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Module:
    """A part of the result, slice behind slice; `name` is None where it is all of it."""

    name: str | None
    slices: tuple[Slice, ...]
    parameters: tuple[Parameter, ...] = ()
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Expert:
    """A model whose feed-forward layers become an expert, and the texts that tell it apart."""

    entry: ModelEntry
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    noise_scale: float = 0.0
    residual_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture of experts; `per_token` and `architecture` are None where nothing is said."""

    experts: tuple[Expert, ...]
    shared: tuple[Expert, ...] = ()
    gate_mode: str = "hidden"
    per_token: int | None = None
    architecture: str | None = None

    @property
    def everyone(self) -> tuple[Expert, ...]:
        """Return the experts, then the shared ones."""
        return (*self.experts, *self.shared)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe whose syntax has been read; whether method and parameters exist is not judged.

    `text` is the source without a byte order mark; spans and places count its characters.
    A recipe that puts slices together has them in `modules`, and each model once in `models`,
    without parameters; one slice alone is a list of models, each with its `layer_range`.
    Of several documents the recipe is the last, and `stages` are those before it, in order, which
    have a name; `earlier` are the names of the stages before a document, whose results it may name
    as it names models. All of them have the whole file as their `text`.
    `dialect` is true when mergekit would read the same file. `ledger` is what to keep for taking
    models out again: `references`, `deltas`, `deltas+base`, `state` (the sums of a method that has
    some) or `none`. `on_mismatch` is `error`, `base` or `skip`. `places` holds the place of each
    top-level value.
    """

    text: str
    merge_method: Scalar
    models: tuple[ModelEntry, ...]
    base_model: LocatedRef | None = None
    parameters: tuple[Parameter, ...] = ()
    modules: tuple[Module, ...] = ()
    mixture: Mixture | None = None
    dtype: DType | None = None
    out_dtype: DType | None = None
    seed: int = 0
    name: str | None = None
    license: str | None = None
    ledger: str = "references"
    on_mismatch: str = "error"
    push: Push | None = None
    tokenizer: Tokenizer | None = None
    chat_template: Scalar | None = None
    dialect: bool = True
    places: tuple[tuple[str, Place], ...] = ()
    stages: tuple[Recipe, ...] = ()
    earlier: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The sha256 of the text as UTF-8, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def is_sliced(self) -> bool:
        """Whether the recipe says which layers are merged, in slices or modules."""
        return bool(self.modules) or any(m.layer_range is not None for m in self.models)

    @property
    def renumbers(self) -> bool:
        """Whether layers of the result may have other numbers than in the models."""
        return bool(self.modules) or any(m.layer_range and m.layer_range[0] for m in self.models)

    @property
    def references(self) -> tuple[LocatedRef, ...]:
        """Every reference to a model, document by document; results of stages are none."""
        own = (r for r in self.inputs if str(r.ref) not in self.earlier)
        return (*(r for stage in self.stages for r in stage.references), *own)

    @property
    def inputs(self) -> tuple[LocatedRef, ...]:
        """Every reference of this document: the base, if there is one, the models, the tokenizer's.

        Of a recipe of slices or experts, each of its places.
        """
        base = () if self.base_model is None else (self.base_model,)
        if self.mixture is not None:
            return (*base, *(expert.entry.located for expert in self.mixture.everyone))
        named = () if self.tokenizer is None else self.tokenizer.references
        slices = [s for module in self.modules for s in module.slices]
        if not slices:
            return (*base, *(entry.located for entry in self.models), *named)
        own = [s.base_model for s in slices if s.base_model is not None]
        return (*base, *own, *(entry.located for s in slices for entry in s.models), *named)

    @property
    def keeps_files(self) -> bool:
        """Whether the merge has files of kept models or sums, which go to a place of their own."""
        return self.ledger not in ("references", "none")

    def setting(self, name: str) -> Setting | None:
        """Return the recipe's own setting of a parameter, or None."""
        return find_setting(self.parameters, name)

    def place_of(self, key: str) -> Place | None:
        """Return where the value of a top-level key stands, or None if the key is absent."""
        return dict(self.places).get(key)


def find_setting(parameters: tuple[Parameter, ...], name: str) -> Setting | None:
    """Return the setting of the parameter called `name`, or None."""
    return next((p.setting for p in parameters if p.name == name), None)
