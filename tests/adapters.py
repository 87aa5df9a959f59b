"""LoRA adapters for tests: written by PEFT on transformers' models, or by hand from factors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

PREFIX = "base_model.model."
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": None}


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    """Write tensors, under names of the model's class, and a config; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {PREFIX + n: t.contiguous() for n, t in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    return folder


def factors(
    modules: Mapping[str, tuple[int, int]], rank: int = 2, seed: int = 0, size: float = 0.1
) -> dict[str, Tensor]:
    """Random factors for modules of the shapes (out, in)."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for module, (n_out, n_in) in modules.items():
        found[f"{module}.lora_A.weight"] = torch.randn((rank, n_in), generator=generator)
        found[f"{module}.lora_B.weight"] = size * torch.randn((n_out, rank), generator=generator)
    return found


def write_with_peft(model: Any, folder: Path, seed: int = 0, **config: Any) -> Any:
    """Put a LoRA of random values on a model, save it to `folder`; return PEFT's model.

    Whatever PEFT trains with it, whole modules and biases too, is moved by random steps.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT says to transformers
        adapted = get_peft_model(model, LoraConfig(**config))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted.save_pretrained(folder)
    return adapted
