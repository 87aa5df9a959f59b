"""How small models are kept, and how fast: python tests/bench/kept_deltas.py BASE MODEL...

BASE and MODEL are model folders; with `--bfloat16` their float32 tensors are rounded first. Really
trained models only: random weights or random changes say nothing. A family that is made in a
minute: `python -c "from pathlib import Path; from mdm_kit.demo.family import build_family;
build_family(Path('family'), print)"`, then family/base and family/roman. SmolLM2 and fine-tunes of
it: `tests/real/real_models.py`, build_smollm2.

Prints for each model how many times smaller its file is, that for the tensors that changed alone,
and for 1 and 2 threads the MB of model coded and decoded a second, the files in the system's cache.
"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mdm_kit.run.keeping import Kept, keep_deltas
from mdm_kit.sources import FolderSource
from mdm_kit.sources.kept import KeptSource
from mdm_kit.sources.kept_container import Container
from mdm_kit.sources.kept_facts import TENSOR

REPEATS = 3


def rounded(folder: Path, out: Path) -> Path:
    """Write a folder's weights again in bfloat16."""
    out.mkdir()
    for path in folder.glob("*.safetensors"):
        tensors = {n: t.bfloat16() for n, t in load_file(path).items()}
        save_file(tensors, out / path.name)
    return out


def changed_ratio(base: FolderSource, source: FolderSource, path: Path) -> float:
    """Return how many times smaller the tensors are that differ from the base's."""
    before = after = 0
    in_base = base.headers().tensors
    with Container(source.name, path) as container:
        for name, info in source.headers().tensors.items():
            if name not in in_base or base.read(in_base[name]) != source.read(info):
                before += info.nbytes
                after += container.entries[TENSOR + name].nbytes
    return before / max(1, after)


def keep(base: Path, model: Path, path: Path, threads: int) -> float:
    with FolderSource("base", base) as b, FolderSource("model", model) as m:
        b.headers(), m.headers()
        start = time.perf_counter()
        keep_deltas([Kept(m, b, path)], threads)
        return m.headers().nbytes / (time.perf_counter() - start) / 1e6


def decode(base: Path, path: Path, threads: int) -> float:
    with FolderSource("base", base) as b, KeptSource("model", path, b) as kept:
        infos = list(kept.headers().tensors.values())
        with ThreadPoolExecutor(threads) as pool:
            start = time.perf_counter()
            list(pool.map(lambda i: len(kept.read(i)), infos))
        return sum(i.nbytes for i in infos) / (time.perf_counter() - start) / 1e6


def main(base: Path, models: list[Path], room: Path) -> None:
    for model in models:
        path = room / "kept.safetensors"
        keep(base, model, path, 1)
        with FolderSource("base", base) as b, FolderSource("model", model) as m:
            ratio = m.headers().nbytes / path.stat().st_size
            changed = changed_ratio(b, m, path)
        print(f"{model.name}: {ratio:.2f} times smaller, changed tensors {changed:.2f} times")
        for threads in (1, 2):
            coded = max(keep(base, model, path, threads) for _ in range(REPEATS))
            decoded = max(decode(base, path, threads) for _ in range(REPEATS))
            print(f"  {threads} threads: coded {coded:.0f} MB/s, decoded {decoded:.0f} MB/s")


if __name__ == "__main__":
    given = [Path(a) for a in sys.argv[1:] if a != "--bfloat16"]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        if "--bfloat16" in sys.argv:
            given = [rounded(p, Path(temporary) / p.name) for p in given]
        main(given[0], given[1:], Path(temporary))
