"""Makes the merges in `golden/1`, and `golden/1/sums`: what manifests of version 1 are for ever.

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

MAPS = {
    "model.embed_tokens.weight": (9, 6),
    "model.layers.0.mlp.up_proj.weight": (10, 6),
    "model.layers.1.self_attn.q_proj.weight": (6, 6),
    "model.norm.weight": (6,),
    "lm_head.weight": (9, 6),
}
"""A tied head: it is summed, and does not count."""
SHAPES = {"model.layers.0.w": (3, 5), "model.layers.1.w": (7,), "model.norm.weight": (4,)}


def main(folder: Path) -> None:
    """Write all of them."""
    write_folds(folder)
    write_sums(folder / "sums")


def write_folds(folder: Path) -> None:
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


def write_sums(folder: Path) -> None:
    """Write merges that are kept as sums, grown and less one model, their base and their models."""
    generator = torch.Generator().manual_seed(6)
    base = {n: torch.randn(s, generator=generator) for n, s in MAPS.items()}
    for name in ("base", "m1", "m2", "m3"):
        tensors = base
        if name != "base":
            tensors = {
                n: b + 0.1 * torch.randn(b.shape, generator=generator) for n, b in base.items()
            }
        tensors = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
        (folder / name).mkdir(parents=True)
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
    config = '{"model_type": "llama", "hidden_size": 6, "tie_word_embeddings": true}'
    (folder / "base" / "config.json").write_text(config)
    for method, mode in (("opcm", "rebuild"), ("covmerge", "exact")):
        recipe = (
            f"merge_method: {method}\nbase_model: {folder}/base\nmodels:\n"
            f"  - {{model: {folder}/m1}}\n  - {{model: {folder}/m2}}\n"
            "dtype: bfloat16\nledger: {keep: state}\n"
        )
        grown, less = folder / method, folder / f"{method}-less"
        mdm_kit.merge(recipe, folder / "two")
        mdm_kit.add(folder / "two", grown, [mdm_kit.Addition(str(folder / "m3"))])
        mdm_kit.unmerge(grown, less, ["m3"], mode=mode)  # type: ignore[arg-type]
        shutil.rmtree(folder / "two")
        for merged in (grown, less):
            (merged / ".mdm_local.json").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
