"""Merges that take models in one after another: where their time goes, and what each `add` costs.

    python tests/bench/continual.py                models of 76 million parameters, then of 25
    python tests/bench/continual.py --layers 8,4 --models 5 --methods opcm

First one merge of four models, and its time by stage, summed over threads. Then, with smaller
models, a merge of one that grows by one in each process, every model deleted once it is in, beside
one merge of all at once, whose files must have the same bytes. Files are in the page cache: they
were just written. `read` is what the merge took from models, base and sums, as often as it took it;
the digests of kept sums are compared before, which is not in it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from family import shapes
from measured import Measured, measure

METHODS = ("opcm", "covmerge")
AT_ONCE = 4
HIDDEN, INNER, VOCABULARY = 1024, 4096, 8192
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
INSIDE = """
import dataclasses, json, sys
import mdm_kit
from mdm_kit.api_edits import Running
said, source, out, threads, *models = sys.argv[1:]
if models:
    more = [mdm_kit.Addition(m) for m in models]
    merged = mdm_kit.add(source, out, more, running=Running(threads=int(threads)))
else:
    merged = mdm_kit.merge(source, out, threads=int(threads))
with open(said, "w") as file:
    json.dump({n: dataclasses.asdict(s) for n, s in merged.profile.stages.items()}, file)
"""
"""A process that merges, or adds models to a merge, and leaves its profile behind."""

Stages = dict[str, dict[str, float]]


def tied_shapes(n_layers: int) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a model, whose head is its embedding."""
    found = shapes(n_layers, HIDDEN, INNER, VOCABULARY)
    del found["lm_head.weight"]
    return found


def write_model(root: Path, i: int, n_layers: int) -> Path:
    """Write the base (0), or fine-tune i of the one that is there; return its folder."""
    folder = root / (f"m{i}" if i else "base")
    base = load_file(root / "base" / "model.safetensors") if i else {}
    generator = torch.Generator().manual_seed(i)
    found = {}
    for name, shape in tied_shapes(n_layers).items():
        noise = torch.randn(shape, generator=generator) * (0.002 if i else 0.02)
        found[name] = (base[name].float() + noise if i else noise).bfloat16()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": n_layers}))
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_family(root: Path, n_models: int, n_layers: int) -> None:
    """Write a base and its fine-tunes in place of those that are there."""
    for folder in (root / "base", *root.glob("m*")):
        shutil.rmtree(folder, ignore_errors=True)
    for i in range(1 + n_models):
        write_model(root, i, n_layers)


def write_recipe(root: Path, method: str, models: Iterable[int]) -> Path:
    """Write the recipe of a merge that keeps its sums; return its path."""
    lines = [f"merge_method: {method}", f"base_model: {root / 'base'}", "models:"]
    lines += [f"  - model: {root / f'm{i}'}" for i in models]
    path = root / "recipe.yml"
    path.write_text("\n".join([*lines, "dtype: bfloat16", "ledger: {keep: state}"]) + "\n")
    return path


def profiled(
    root: Path, source: Path, out: Path, threads: int, *models: Path
) -> tuple[Measured, Stages]:
    """Merge a recipe, or add models to a merge, in a process; return its costs and its stages."""
    said = root / "said.json"
    words = map(str, (said, source, out, threads, *models))
    measured = measure([sys.executable, "-c", INSIDE, *words])
    return measured, json.loads(said.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--layers", default="4,1", help="of the merge at once, of what grows")
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, default=None, help="where to put the family")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="mdm-kit-bench-", dir=given.folder))
    try:
        versions = ", ".join(
            f"{p} {importlib.metadata.version(p)}" for p in ("mdm-kit", "numba", "torch")
        )
        print(f"{versions}; {given.threads} threads")
        large, small = map(int, given.layers.split(","))
        for method in given.methods.split(","):
            write_family(root, AT_ONCE, large)
            at_once(root, method, given.threads)
            write_family(root, given.models, small)
            grow(root, method, given.models, given.threads)
    finally:
        shutil.rmtree(root)


def at_once(root: Path, method: str, threads: int) -> None:
    """Print what one merge of four takes, and each stage; compile the kernels before."""
    out = root / "out"
    for n in (2, AT_ONCE):
        recipe = write_recipe(root, method, range(1, 1 + n))
        measured, stages = profiled(root, recipe, out, threads)
        shutil.rmtree(out)
    print(f"\n{method}, {AT_ONCE} models of {nbytes(root) / 1e6:.0f} MB at once:")
    print(f"  {measured.wall_s:.1f} s of wall time, {measured.cpu_s:.1f} s of CPU time, ", end="")
    print(f"{measured.anonymous_nbytes / 1e6:.0f} MB of anonymous memory at most")
    for name, spent in stages.items():
        if spent["seconds"]:
            print(f"  {name:10} {spent['seconds']:7.2f} s")


def grow(root: Path, method: str, n: int, threads: int) -> None:
    """Print what each model costs that joins; exit with 1 where the bytes are not those of one."""
    whole, out, size = root / "whole", root / "grown1", nbytes(root)
    everything = write_recipe(root, method, range(1, 1 + n))
    rows = [("all at once", profiled(root, everything, whole, threads))]
    first = write_recipe(root, method, [1])
    rows.append(("model 1", profiled(root, first, out, threads)))
    for i in range(2, 1 + n):
        shutil.rmtree(root / f"m{i - 1}")
        before, out = out, root / f"grown{i}"
        rows.append((f"model {i}", profiled(root, before, out, threads, root / f"m{i}")))
        shutil.rmtree(before)
    print(f"\n{method}, {n} models of {size / 1e6:.0f} MB")
    print(f"{'':12} {'wall s':>8} {'CPU s':>8} {'anonymous MB':>13} {'read MB':>8}")
    for name, (m, stages) in rows:
        memory, mb = m.anonymous_nbytes / 1e6, stages["read"]["nbytes"] / 1e6
        print(f"{name:12} {m.wall_s:8.1f} {m.cpu_s:8.1f} {memory:13.0f} {mb:8.0f}")
    same = weights(out) == weights(whole)
    kept = sum(f.stat().st_size for f in (out / "deltas").iterdir())
    print(f"{n} one after another have the bytes of {n} at once: {'yes' if same else 'NO'}")
    print(f"kept sums: {kept / 1e6:.0f} MB")
    shutil.rmtree(whole)
    shutil.rmtree(out)
    if not same:
        sys.exit(1)


def nbytes(root: Path) -> int:
    """Return the bytes of the base's weights, and of every model's."""
    return (root / "base" / "model.safetensors").stat().st_size


def weights(out: Path) -> dict[str, bytes]:
    """Return the shards of a merge and the sums it keeps."""
    return {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*.safetensors")}


if __name__ == "__main__":
    main()
