"""The card of an adapter: what the Hub reads, and a few lines for people."""

from __future__ import annotations

import math
from pathlib import PurePath

import yaml

from mdm_kit.adapters.config import Named
from mdm_kit.adapters.extracted import ExtractedLora
from mdm_kit.bundle.card_text import cell, fenced
from mdm_kit.sources import is_repo_id

_LOAD = """\
from peft import PeftModel
from transformers import {made}

model = {made}.from_pretrained(BASE)
model = PeftModel.from_pretrained(model, THIS_FOLDER)
"""


def write_card(
    found: ExtractedLora, model: Named, base: Named, made: str, *, of_hub: bool
) -> bytes:
    """Return the bytes of README.md; paths of folders stay on this machine.

    `made` is the base's class in transformers, where its config says one.
    """
    fields: dict[str, object] = {"library_name": "peft", "tags": ["lora", "mdm-kit"]}
    if of_hub and is_repo_id(base.path):
        fields |= {"base_model": base.path, "base_model_relation": "adapter"}
    # One line for each value: no text in it can look like the end of the front matter.
    front = yaml.safe_dump(fields, sort_keys=False, width=math.inf)
    ranks = sorted({p.rank for p in found.pairs})
    span = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    saved = sum(o.saved for o in found.others)
    left = [o for o in found.others if not o.saved]
    lines = [
        f"What {_public(model)} changed of {_public(base)}, as a LoRA of rank {span} "
        f"on {len(found.pairs):,} modules.",
        f"It holds {found.kept:.2%} of the change's squared norm.",
    ]
    if saved:
        lines.append(f"{saved:,} other tensors are saved as they are in the fine-tune.")
    if left:
        lines.append(
            f"{len(left):,} changed tensors are not in it; they hold {found.share(left):.2%}."
        )
    text = " ".join(lines)
    load = _LOAD.format(made=made if made.isidentifier() else "AutoModelForCausalLM")
    return f"---\n{front}---\n\n# LoRA\n\n{text}\n\n{fenced(load, 'python')}\n".encode()


def _public(model: Named) -> str:
    if is_repo_id(model.path):
        return cell(str(model))
    return cell(PurePath(model.path).name or "a folder")
