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
FileName = Annotated[str, _Text(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?$", 255)]


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
class SourceEntry(Entry):
    """A model of the merge, in the order of the recipe; `reference` holds no path.

    `status` is `removed` where the model was taken out of the weights but not folded anew without
    it. `kept` is the file of the bundle that holds all its bits.
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
    plain sums are the rows of `plain`. `wide` are those whose deltas were formed in float64.
    """

    file: str
    sha256: Sha256
    models: list[str]
    tensors: list[str]
    exact: list[str] = field(default_factory=list)
    wide: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileEntry(Entry):
    """A file of the folder and its digest."""

    nbytes: int
    sha256: Sha256


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
