"""The same plan gives the same bytes, whatever the hash seed and the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from families import write_family


def test_hash_seed_and_threads_do_not_show(tmp_path: Path) -> None:
    write_family(tmp_path, n=3)
    recipe = tmp_path / "r.yml"
    recipe.write_text(
        f"merge_method: task_arithmetic\nbase_model: {tmp_path}/base\nmodels:\n"
        + "".join(
            f"  - {{model: {tmp_path}/m{i}, parameters: {{weight: [0.1, 0.{i}]}}}}\n"
            for i in (1, 2, 3)
        )
    )
    seen = set()
    for seed, threads in ((0, 1), (1, 4), (2, 1), (3, 4)):
        out = tmp_path / f"out{seed}"
        subprocess.run(
            [
                *(sys.executable, "-m", "mdm_kit", "merge", recipe, out),
                *("--threads", str(threads), "--shard-size", "4kB"),
            ],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": str(threads)},
            check=True,
            capture_output=True,
        )
        names = sorted(p.name for p in out.iterdir())
        promised = [n for n in names if n not in ("README.md", "mdm_manifest.json")]
        seen.add(tuple((n, (out / n).read_bytes()) for n in promised))
    assert len(seen) == 1
