"""What a manifest's parts are: sources, tensors, groups, files, events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler


@dataclass(frozen=True, slots=True)
class _Text:
    """Text of a form. pydantic, which is slow to import, is asked only when a manifest is read."""

    pattern: str
    max_length: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        limits = {} if self.max_length is None else {"max_length": self.max_length}
        return {**handler(source), "pattern": self.pattern, **limits}


Sha256 = Annotated[str, _Text(r"^sha256:[0-9a-f]{64}$")]
Blake3 = Annotated[str, _Text(r"^blake3:[0-9a-f]{64}$")]
ShardName = Annotated[str, _Text(r"^model(-[0-9]{5}-of-[0-9]{5})?\.safetensors$")]
Commit = Annotated[str, _Text(r"^[0-9a-f]{40}$")]
RepoId = Annotated[str, _Text(r"^[A-Za-z0-9_.-]{1,96}/[A-Za-z0-9_.-]{1,96}$")]
FileName = Annotated[str, _Text(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?$", 255)]


LEFT_OUT = "left out"
"""Marks, in a field's metadata, what a file does not mention where it is None."""


class Entry:
    """Read strictly: no field more, none less, nothing converted."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class SourceFile(Entry):
    """A weight file of a source. `status` is `verified` when all its bytes were hashed here,
    `declared` when its digest is only what the Hub says, None when there is no digest of the bytes.
    """

    name: str
    nbytes: int
    header_sha256: Sha256
    sha256: Sha256 | None = None
    status: Literal["declared", "verified"] | None = None


@dataclass(frozen=True)
class StandingEntry(Entry):
    """What the Hub said of a model's repository when it was merged: see `sources.Standing`.

    A merge that goes on without the model has its terms from here. All of it is a stranger's text.
    """

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    pipeline_tag: str | None = None
    gated: bool = False
    private: bool = False


@dataclass(frozen=True)
class AdapterEntry(Entry):
    """The LoRA adapter on a model: its repository, its files and what the Hub said of it."""

    repo: str | None
    commit: str | None
    files: list[SourceFile]
    standing: StandingEntry | None = field(default=None, metadata={LEFT_OUT: True})


@dataclass(frozen=True)
class SourceEntry(Entry):
    """A model of the merge, in the order of the recipe; `reference` holds no path.

    With an `adapter` on it, `repo`, `commit`, `files` and `standing` are of what that was put on,
    and `kept` is the file that holds the adapter. `status` is `removed` where the model was taken
    out of the weights but not folded anew without it. `kept` is the file of the bundle that holds
    all its bits. `standing` is left out where the Hub was not asked.
    """

    name: str
    role: Literal["base", "model"]
    reference: str
    repo: str | None
    commit: str | None
    files: list[SourceFile]
    parameters: dict[str, Any] = field(default_factory=dict)
    status: Literal["merged", "removed"] = "merged"
    kept: FileName | None = None
    standing: StandingEntry | None = field(default=None, metadata={LEFT_OUT: True})
    adapter: AdapterEntry | None = field(default=None, metadata={LEFT_OUT: True})


PASSED = "base"
"""The rule of a tensor that is as its first owner has it, because not every model has it."""


@dataclass(frozen=True)
class StageModel(Entry):
    """A model as a stage names it: that of the sources with this reference, or an earlier stage."""

    name: str
    reference: str


@dataclass(frozen=True)
class StageEntry(Entry):
    """An earlier document of the recipe, whose result later ones were made of.

    `models` are those it names, in its order; `plan` is the digest of the stage's own plan.
    """

    name: str
    method: str
    seed: int
    plan: Sha256
    compute: list[str]
    models: list[StageModel]


@dataclass(frozen=True)
class TensorEntry(Entry):
    """An output tensor: what its bytes are and the rule that made them.

    `weights` are what each model's delta was multiplied by, in the order of the ledger's models,
    where they follow from inner products or the weights were patched.
    """

    shape: list[int]
    dtype: str
    blake3: Blake3
    rule: str
    shard: str
    weights: list[float] | None = None


@dataclass(frozen=True)
class PartsEntry(Entry):
    """Where models do not have the same tensors.

    `without` has, by tensor of the result, the models that have no part in it; the others were
    merged. `unused` has, by model, its tensors that the result has nothing of. A tensor that is
    copied because not every model has it has the rule `base`.
    """

    without: dict[str, list[str]] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupEntry(Entry):
    """Tensors that were made orthogonal together.

    `q` are the energies of the components, in the order of the models; `dependent` names the models
    whose delta lies in the span of others; `largest_cosine` is between two deltas. Components are
    orthogonal but for a cosine of about N·2⁻⁵³·`condition`, κ = max ‖d_i‖²/q_i.
    """

    tensors: list[str]
    q: list[float]
    dependent: list[str]
    largest_cosine: float
    condition: float


@dataclass(frozen=True)
class LedgerEntry(Entry):
    """The ledger file: inner products of the models' deltas, one row of its `gram` per tensor.

    A row is a lower triangle, (0,0), (1,0), (1,1), ..., of the `models` in this order. `exact`
    names the tensors whose sums are compensated because their group is nearly dependent; their
    plain sums are the rows of `plain`. `wide` are those whose deltas were formed in float64,
    `factored` those whose deltas are products of an adapter's factors, measured on these.
    """

    file: str
    sha256: Sha256
    models: list[str]
    tensors: list[str]
    exact: list[str] = field(default_factory=list)
    wide: list[str] = field(default_factory=list)
    factored: list[str] | None = field(default=None, metadata={LEFT_OUT: True})


@dataclass(frozen=True)
class SummedTensor(Entry):
    """How a tensor was merged as a sum over models, in their order.

    `energies` are |d_t|² of the models' changes. For a projecting method `totals` are |S_t|² of the
    sum after each model, `kept` is |P(d_t)|²/|d_t|² of what was added, `ranks` has for each linear
    map of the tensor the size of the protected block by model, and `margin` is how far the smallest
    singular value that counted lay above the tolerance, as a multiple of it: under 10 another
    machine may count differently. `counts` is false for a copy of another tensor.
    """

    energies: list[float]
    totals: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    ranks: list[list[int]] = field(default_factory=list)
    margin: float | None = None
    counts: bool = True


@dataclass(frozen=True)
class SumsEntry(Entry):
    """The sums a merge is made of.

    `norms` are |d_t| of the models, over all tensors that count. For a projecting method `lambdas`
    are |S_t| over the mean of the first t norms; `scale` is what the sum of every tensor was
    multiplied by before the method's own factors, None where each tensor has its own. `files` hold
    the sums themselves, where they are kept, and with `steps_back` those before the last model.
    `rounded` is the number of models whose sum was read back from rounded weights, and `rounding`
    about how large an error that has left, as a share of the sum.
    """

    norms: list[float]
    lambdas: list[float]
    scale: float | None
    tensors: dict[str, SummedTensor]
    files: list[FileName] = field(default_factory=list)
    steps_back: bool = False
    rounded: int = 0
    rounding: float = 0.0


@dataclass(frozen=True)
class FileEntry(Entry):
    """A file of the folder and its digest."""

    nbytes: int
    sha256: Sha256


@dataclass(frozen=True)
class DeltasEntry(Entry):
    """Where the kept models of a published merge lie, under the names `files` has for them.

    It says where and not what: their digests are in `files`.
    """

    repo: RepoId
    commit: Commit


@dataclass(frozen=True)
class Precision(Entry):
    """Dtypes of the arithmetic that was used, by torch name, and what the recipe asked for."""

    compute: list[str]
    dtype: str | None
    out_dtype: str | None


Mode = Literal["rebuild", "exact", "subtract"]


@dataclass(frozen=True)
class Certificate(Entry):
    """What was taken out, how, and what of it is left.

    `parent` is the digest of the manifest it was taken out of. `leak` is how far the weights are
    from those that never held the removed models, as a share of the merged change; 0 for a rebuild,
    None where nobody measured it. `residue` is the largest coefficient of any tensor that a removed
    model's raw change still has. `weights` is the digest over the shards that were written, `check`
    the command that proves it.
    """

    parent: Sha256
    removed: list[str]
    mode: Mode
    leak: float | None
    residue: dict[str, float]
    weights: Sha256
    check: str


@dataclass(frozen=True)
class Event(Entry):
    """One step of the folder's history; `parent` is the digest of the event before it.

    `sections` has the digest of every other part of the manifest as it was after the event.
    """

    operation: Literal["merge", "add", "unmerge"]
    time: str
    plan: Sha256
    sections: dict[str, Sha256]
    parent: Sha256 | None = None
    added: list[str] = field(default_factory=list)
    certificate: Certificate | None = None
