"""What prompts are in a base model: their tokens, and the states in which these enter each layer.

Weights are read from the source layer by layer, as float32, so that one layer is in memory at a
time. No code of the model's own is run. Each prompt goes through by itself: its states do not
depend on what else is asked for.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdm_kit.errors import MisfitError
from mdm_kit.sources import Source
from mdm_kit.words import DTYPES, TensorInfo, shown

if TYPE_CHECKING:
    import torch

F32s = NDArray[np.float32]
TOGETHER_NBYTES = 1 << 20
"""Rows within so many bytes cost less to read together than one by one from a Hub."""
EMBEDDING = "embed_tokens.weight"
"""What the families that become mixtures call the token embedding, behind their prefix."""


def read_prompts(base: Source, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of texts, each behind the tokenizer's beginning of text if it has one.

    Raises `MisfitError` where the base has no tokenizer that can be read.
    """
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="mdm-prompts-") as folder:
        for name in base.side_files():
            data = base.side_file(name)
            if data is not None and "/" not in name:
                (Path(folder) / name).write_bytes(data)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:  # noqa: BLE001 -- whatever a strange tokenizer brings up
            why = shown(str(error).splitlines()[0], 200)
            raise MisfitError(
                "the prompts cannot be read: transformers loads no tokenizer of "
                f"{shown(base.name)} ({why}); use gate_mode: random"
            ) from None
    start = tokenizer.bos_token or ""
    found = [tokenizer(start + t, add_special_tokens=False)["input_ids"] for t in texts]
    for text, ids in zip(texts, found, strict=True):
        if not ids:
            raise MisfitError(f"the prompt {shown(text, 60)!r} has no token for {shown(base.name)}")
    return found


def embedded(base: Source, tokens: Sequence[Sequence[int]], hidden: int) -> list[F32s]:
    """Return the sum of each prompt's embedded tokens, (hidden,)."""
    rows = _rows(base, tokens)
    sums = [np.sum([rows[i] for i in ids], axis=0, dtype=np.float64) for ids in tokens]
    return [s.astype(np.float32).reshape(hidden) for s in sums]


def states(
    base: Source, tokens: Sequence[Sequence[int]], n_layers: int, *, mean: bool
) -> list[F32s]:
    """Return for each prompt the state that enters each layer, (layers, hidden).

    That of the last token, or with `mean` the mean over all tokens.
    """
    found: list[list[F32s]] = [[] for _ in tokens]
    for entering in _layer_by_layer(base, tokens, n_layers):
        for kept, state in zip(found, entering, strict=True):
            values = state[0].double()
            kept.append((values.mean(0) if mean else values[-1]).float().numpy())
    return [np.stack(kept) for kept in found]


def _layer_by_layer(
    base: Source, tokens: Sequence[Sequence[int]], n_layers: int
) -> Iterator[list[torch.Tensor]]:
    """Yield what enters each layer, one (1, tokens, hidden) for each prompt."""
    import torch

    rows = _rows(base, tokens)
    entering = [torch.from_numpy(np.stack([rows[i] for i in ids]))[None] for ids in tokens]
    inner, config = _empty_model(base)
    rotary = type(inner.rotary_emb)(config=config)
    with torch.inference_mode():
        for i in range(n_layers):
            yield entering
            if i == n_layers - 1:
                return
            layer = _filled(base, inner.layers[i], f"layers.{i}.")
            entering = [_through(layer, rotary, state) for state in entering]


def _through(layer: Any, rotary: Any, state: torch.Tensor) -> torch.Tensor:
    import torch

    positions = torch.arange(state.shape[1])[None]
    out = layer(
        state,
        attention_mask=None,
        position_ids=positions,
        position_embeddings=rotary(state, positions),
    )
    made: torch.Tensor = out[0] if isinstance(out, tuple) else out
    return made


def _empty_model(base: Source) -> tuple[Any, Any]:
    """Return the base's model without weights, and its config."""
    import torch
    from transformers import AutoConfig, AutoModel

    said = json.loads(base.side_file("config.json") or b"{}")
    kind = str(said.pop("model_type", ""))
    try:
        config = AutoConfig.for_model(kind, **said)
        with torch.device("meta"):
            model = AutoModel.from_config(  # type: ignore[no-untyped-call]
                config, attn_implementation="sdpa", dtype=torch.float32, trust_remote_code=False
            )
        return model.eval(), config
    except Exception as error:  # noqa: BLE001 -- whatever a strange config brings up
        raise MisfitError(
            f"the prompts cannot be run through {shown(base.name)}: transformers makes no model of "
            f"its config ({shown(str(error).splitlines()[0], 200)}); use gate_mode: cheap_embed"
        ) from None


def _filled(base: Source, layer: Any, prefix: str) -> Any:
    """Return a layer with its weights, as float32."""
    filled = layer.to_empty(device="cpu")
    for name, parameter in filled.named_parameters():
        info = _named(base, prefix + name)
        if info.shape != tuple(parameter.shape):
            raise MisfitError(
                f"{shown(base.name)}: its config asks for {shown(info.name)} of shape "
                f"{list(parameter.shape)}, found {list(info.shape)}; mend its config, or use "
                "gate_mode: cheap_embed"
            )
        parameter.data.copy_(_tensor(base, info))
    return filled


def _named(base: Source, name: str) -> TensorInfo:
    """Return the tensor called so behind whatever prefix."""
    tensors = base.headers().tensors
    found = next((t for n, t in tensors.items() if n == name or n.endswith(f".{name}")), None)
    if found is None:
        raise MisfitError(f"{shown(base.name)} has no tensor {shown(name)} to run prompts through")
    return found


def _tensor(base: Source, info: TensorInfo) -> torch.Tensor:
    import torch

    dtype = getattr(torch, DTYPES[info.dtype].torch_name)
    return torch.frombuffer(bytearray(base.read(info)), dtype=dtype).reshape(info.shape).float()


def _rows(base: Source, tokens: Sequence[Sequence[int]]) -> dict[int, F32s]:
    """Return the embedding of each token that occurs; rows near one another are read together."""
    import torch

    info = _named(base, EMBEDDING)
    dtype = DTYPES[info.dtype]
    width = info.shape[1] * dtype.bits // 8
    wanted = sorted({i for ids in tokens for i in ids})
    if wanted[-1] >= info.shape[0]:
        raise MisfitError(
            f"the tokenizer of {shown(base.name)} has a token {wanted[-1]:,}, and its embedding "
            f"{info.shape[0]:,} rows"
        )
    found: dict[int, F32s] = {}
    for group in _groups(wanted, max(1, TOGETHER_NBYTES // width)):
        first = group[0]
        rows = bytearray((group[-1] + 1 - first) * width)
        base.read(info, rows, first * width)
        values = torch.frombuffer(rows, dtype=getattr(torch, dtype.torch_name))
        values = values.reshape(-1, info.shape[1]).float()
        found |= {i: values[i - first].numpy() for i in group}
    return found


def _groups(ids: Sequence[int], reach: int) -> Iterator[list[int]]:
    """Yield rising ids in groups, each with less than `reach` between its first and last."""
    group: list[int] = []
    for i in ids:
        if group and i - group[0] >= reach:
            yield group
            group = []
        group.append(i)
    if group:
        yield group
