"""Makes the merges in `golden/1`: what manifests of schema version 1 look like for ever.

    python tests/ledger/make_golden.py FOLDER

Run it for a new schema version only, into a new folder; never over an old one.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import mdm_kit

SHAPES = {"model.layers.0.w": (3, 5), "model.layers.1.w": (7,), "model.norm.weight": (4,)}


def main(folder: Path) -> None:
    """Write three tiny models, their base, a merge of them and the merge without the second."""
    generator = torch.Generator().manual_seed(5)
    base = {n: torch.randn(s, generator=generator).bfloat16() for n, s in SHAPES.items()}
    shared = {n: torch.randn(s, generator=generator) for n, s in SHAPES.items()}
    for name in ("base", "m1", "m2", "m3"):
        tensors = base
        if name != "base":
            own = {n: torch.randn(s, generator=generator) for n, s in SHAPES.items()}
            tensors = {n: (b + 0.1 * shared[n] + 0.1 * own[n]).bfloat16() for n, b in base.items()}
        (folder / name).mkdir(parents=True)
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
    (folder / "base" / "config.json").write_text('{"model_type": "llama"}')
    recipe = (
        f"merge_method: mdm_oc\nbase_model: {folder}/base\nmodels:\n"
        f"  - {{model: {folder}/m1, parameters: {{weight: 1.0}}}}\n"
        f"  - {{model: {folder}/m2, parameters: {{weight: 0.5}}}}\n"
        f"  - {{model: {folder}/m3, parameters: {{weight: [0.2, 0.8]}}}}\n"
        "ledger: {keep: deltas}\n"
    )
    mdm_kit.merge(recipe, folder / "merged")
    mdm_kit.unmerge(folder / "merged", folder / "without-m2", ["m2"])
    mdm_kit.unmerge(folder / "merged", folder / "less-m2", ["m2"], mode="subtract")
    for merged in ("merged", "without-m2", "less-m2"):
        (folder / merged / ".mdm_local.json").unlink()
    for name in ("m1", "m2", "m3"):
        shutil.rmtree(folder / name)  # the merges keep them


if __name__ == "__main__":
    main(Path(sys.argv[1]))
