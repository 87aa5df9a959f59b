"""Merging adapters through their factors beside merging the same models written out whole.

    python tests/bench/adapters.py                 2048 x 2048, rank 16, four adapters
    python tests/bench/adapters.py --side 1024 --rank 8 --models 6 --methods covmerge

Each merge is a process of its own. `merge` is what it took from the merge's first line to its last,
without the start of Python and imports; `memory` the highest anonymous memory beyond a process
that has only imported the same. Files are in the page cache: they were just written.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from measured import measure

METHODS = ("task_arithmetic", "mdm_oc", "opcm", "covmerge")
N_TENSORS = 8
INSIDE = """
import json, sys, time
import mdm_kit, mdm_kit.planner.planning, mdm_kit.run.merge
recipe, out, said = sys.argv[1:]
began = time.monotonic()
if recipe:
    mdm_kit.merge(open(recipe).read(), out, threads=1)
json.dump(time.monotonic() - began, open(said, "w"))
"""
PREFIX = "base_model.model."


def write_models(root: Path, side: int, rank: int, n_models: int) -> None:
    """Write a bfloat16 base, adapters on it, and each of these models whole in float32."""
    generator = torch.Generator().manual_seed(0)
    names = [f"model.layers.{i}.mlp.up_proj" for i in range(N_TENSORS)]
    base = {f"{n}.weight": (torch.randn((side, side), generator=generator) * 0.02) for n in names}
    base = {n: t.bfloat16() for n, t in base.items()}
    _save(root / "base", base)
    for i in range(1, n_models + 1):
        adapter, whole = {}, {}
        for n in names:
            a = torch.randn((rank, side), generator=generator)
            b = torch.randn((side, rank), generator=generator) * 0.001
            adapter |= {f"{PREFIX}{n}.lora_A.weight": a, f"{PREFIX}{n}.lora_B.weight": b}
            whole[f"{n}.weight"] = base[f"{n}.weight"].float() + b @ a
        _save(root / f"m{i}", whole)
        folder = root / f"a{i}"
        folder.mkdir()
        save_file(adapter, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank}
        (folder / "adapter_config.json").write_text(json.dumps(config))


def _save(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def recipe_of(root: Path, method: str, n_models: int, *, factors: bool) -> str:
    models = []
    for i in range(1, n_models + 1):
        ref = f"{root}/base+{root}/a{i}" if factors else f"{root}/m{i}"
        weight = "" if method == "opcm" else ", parameters: {weight: 0.5}"
        models.append(f"  - {{model: '{ref}', name: m{i}{weight}}}")
    head = [f"merge_method: {method}", f"base_model: {root}/base", "out_dtype: float32", "models:"]
    return "\n".join(head + models)


def merged(root: Path, recipe: str, name: str) -> tuple[float, int]:
    """Return the merge's seconds and the highest anonymous memory of its process."""
    path, said = root / f"{name}.yml", root / "said.json"
    path.write_text(recipe)
    which = [str(path) if recipe else "", str(root / name), str(said)]
    found = measure([sys.executable, "-c", INSIDE, *which])
    return json.loads(said.read_text()), found.anonymous_nbytes


def distance(one: Path, other: Path, base: Path) -> float:
    """Return how far two results are apart, as a share of the merged change."""
    a, b, start = (load_file(p / "model.safetensors") for p in (one, other, base))
    apart = sum(float((a[n] - b[n]).double().square().sum()) for n in a)
    change = sum(float((b[n] - start[n].float()).double().square().sum()) for n in a)
    return (apart / change) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_models(root, given.side, given.rank, given.models)
        _, idle = merged(root, "", "idle")
        print(f"{N_TENSORS} tensors {given.side}², {given.models} adapters of rank {given.rank}")
        print("method           whole: s, MB     factors: s, MB     ratio: s, memory   apart")
        for method in given.methods:
            whole, factors = (
                merged(root, recipe_of(root, method, given.models, factors=f), f"{method}-{f}")
                for f in (False, True)
            )
            memory = [max(1, m - idle) / 1e6 for _, m in (whole, factors)]
            apart = distance(root / f"{method}-True", root / f"{method}-False", root / "base")
            print(f"{method:16} {whole[0]:7.2f} {memory[0]:6.0f}  ", end="")
            print(f"  {factors[0]:7.2f} {memory[1]:6.0f}     {factors[0] / whole[0]:9.3f}", end="")
            print(f" {memory[1] / memory[0]:7.2f}   {apart:.1e}")


if __name__ == "__main__":
    main()
