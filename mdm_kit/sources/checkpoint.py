"""Which files of a model are its weights, and all their headers as one checkpoint.

Preferred, as transformers does: `model.safetensors`; else `model.safetensors.index.json`; else the
only index under another name; else the only .safetensors file under another name. Where a single
file and an index lie side by side the single file is read, because that is what everybody who
loads the model gets. Pickles are never read, whatever else is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdm_kit.errors import IntegrityError, SourceError
from mdm_kit.sources.safe_path import plain_name
from mdm_kit.sources.seam import Checkpoint
from mdm_kit.sources.whereabouts import at, named
from mdm_kit.words import some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mdm_kit.sources.safetensors_header import Header
    from mdm_kit.sources.seam import CheckpointFile
    from mdm_kit.words import TensorInfo

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".bin.index.json")
_NOT_WEIGHTS = frozenset({"training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"})
"""Left behind by a trainer; they say nothing about the form of the weights."""

_SHARD = re.compile(r"-\d+-of-(\d+)\.safetensors$")


@dataclass(frozen=True, slots=True)
class Layout:
    """The weight file to read, or the index that names the files to read; one of the two."""

    single: str | None = None
    index: str | None = None


def choose_layout(
    source: str, names: Iterable[str], bases: Callable[[], Sequence[str]] = tuple
) -> Layout:
    """Return where the weights are among the file names at a model's top level.

    `bases` tells what the model was made from, for a person who has to name that instead.
    Raises `IntegrityError` for shards without an index, `SourceError` for a model whose weights
    come in a form that is not read: pickles, GGUF, an adapter, or none.
    """
    files = sorted(names)
    if SINGLE in files:
        return Layout(single=SINGLE)
    if INDEX in files:
        return Layout(index=INDEX)
    if "adapter_config.json" in files:
        raise SourceError(
            f"{at(source)}: expected a whole model, found a LoRA adapter (adapter_config.json); "
            "write BASE+ADAPTER, with the model it was trained on in front"
            + (f": {some(found)}+..." if (found := bases()) else "")
        )
    indexes = [name for name in files if name.endswith(".safetensors.index.json")]
    if len(indexes) == 1:
        return Layout(index=plain_name(source, indexes[0]))
    weights = [name for name in files if name.endswith(".safetensors")]
    if len(weights) == 1 and _whole(weights[0]):
        return Layout(single=plain_name(source, weights[0]))
    if weights:
        raise IntegrityError(
            f"{at(source)}: expected {SINGLE} or {INDEX}, found {named(weights)} and "
            f"{'several indexes' if indexes else 'no index'}. Which tensors make up the model is "
            "only known from an index: get the missing files"
        )
    raise _unreadable(source, files, bases)


def _whole(name: str) -> bool:
    """Return whether a lone file can be the whole model: not `...-00001-of-00002.safetensors`."""
    shard = _SHARD.search(name)
    return shard is None or int(shard[1]) == 1


def names_other_form(name: str) -> bool:
    """Return whether a file of this name shows that the weights come in a form that is not read."""
    return _is_pickle(name) or name.endswith(".gguf") or name == "adapter_config.json"


def _is_pickle(name: str) -> bool:
    return name.endswith(_PICKLES) and name not in _NOT_WEIGHTS


def _unreadable(source: str, files: list[str], bases: Callable[[], Sequence[str]]) -> SourceError:
    pickles = [name for name in files if _is_pickle(name)]
    if pickles:
        return SourceError(
            f"{at(source)}: expected safetensors weights, found only pickles "
            f"({named(pickles, 3)}), which can run code when opened and are never read here. "
            "Convert the model once, where you trust it, and name FOLDER: "
            "AutoModelForCausalLM.from_pretrained(MODEL).save_pretrained(FOLDER). "
            "Or look for a revision with safetensors"
        )
    gguf = [name for name in files if name.endswith(".gguf")]
    if gguf:
        return SourceError(
            f"{at(source)}: expected safetensors weights, found only GGUF ({named(gguf, 3)}), "
            "which is a quantised copy; name the unquantised model it was made from"
            + (f": {some(found)}" if (found := bases()) else "")
        )
    return SourceError(
        f"{at(source)}: expected {SINGLE} or {INDEX}, found no weights; "
        "check that this is the model's folder or repository and that it was copied whole"
    )


def joined(parts: Sequence[tuple[CheckpointFile, Header]]) -> Checkpoint:
    """Return the checkpoint made of checked files, in the order given.

    A tensor in two files must have been refused before (`shard_index.check_shards`).
    """
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for _, header in parts:
        tensors.update((info.name, info) for info in header.tensors)
        metadata = {**header.metadata, **metadata}
    return Checkpoint(tensors, tuple(file for file, _ in parts), metadata)
