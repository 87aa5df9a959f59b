"""Merges one family with mdm_kit, with mergekit, and with nothing but reading and writing.

    python tests/bench/compare.py                      a family of a billion parameters, 8 GB
    python tests/bench/compare.py --elements 2e8 --runs 1

Each round runs every command once, in turn, so that a machine that gets slower gets slower for
all; the table shows medians and ratios. Files are in the page cache: they were just written.
mdm_kit's commands run once before, unmeasured: the first merges on a machine compile the kernels.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from family import write_family
from measured import Measured, measure

MERGEKIT = "import sys; from mergekit.scripts.run_yaml import main; sys.exit(main())"


def recipe(method: str, folders: list[Path]) -> str:
    base, *models = folders
    lines = [f"merge_method: {method}", "dtype: bfloat16", "models:"]
    lines += [f"  - {{model: {m}, parameters: {{weight: 0.4}}}}" for m in models]
    return "\n".join(lines if method == "linear" else [f"base_model: {base}", *lines]) + "\n"


def commands(root: Path, folders: list[Path], threads: int) -> dict[str, list[str]]:
    """Return the commands of a round by name; `OUT` stands for the output."""
    run = {}
    files = [str(f / "model.safetensors") for f in folders]
    bound = [sys.executable, str(Path(__file__).parent / "copy_bound.py"), "OUT", str(threads)]
    run["copy bound, 3 models"] = [*bound, *files[1:]]
    run["copy bound, 3 models and base"] = [*bound, *files]
    has_mergekit = importlib.util.find_spec("mergekit") is not None
    for method in ("linear", "task_arithmetic", "mdm_oc"):
        path = root / f"{method}.yml"
        path.write_text(recipe(method, folders))
        ours = [sys.executable, "-m", "mdm_kit", "merge", str(path), "OUT"]
        run[f"mdm_kit {method}"] = [*ours, "--threads", str(threads)]
        if has_mergekit and method != "mdm_oc":
            run[f"mergekit {method}"] = [sys.executable, "-c", MERGEKIT, str(path), "OUT"]
    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--elements", type=float, default=1e9)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, default=None, help="where to put the family")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="mdm-kit-bench-", dir=given.folder))
    try:
        folders = write_family(root / "family", given.elements, 3)
        rounds: dict[str, list[Measured]] = {}
        for i in range(1 + given.runs):
            for name, command in commands(root, folders, given.threads).items():
                if i == 0 and not name.startswith("mdm_kit"):
                    continue
                out = root / "out"
                measured = measure([str(out) if word == "OUT" else word for word in command])
                shutil.rmtree(out) if out.is_dir() else out.unlink()
                if i > 0:
                    rounds.setdefault(name, []).append(measured)
        show(rounds, given.threads, given.runs)
    finally:
        shutil.rmtree(root)


def show(rounds: dict[str, list[Measured]], threads: int, runs: int) -> None:
    def median(name: str, what: str) -> float:
        return statistics.median(getattr(m, what) for m in rounds[name])

    versions = ", ".join(
        f"{p} {importlib.metadata.version(p)}" for p in ("mdm-kit", "numba", "torch")
    )
    print(f"{versions}; {threads} threads, median of {runs}")
    print(
        f"{'':32} {'CPU s':>8} {'wall s':>8} {'anonymous MB':>13} "
        f"{'wall/bound':>11} {'CPU/mergekit':>13}"
    )
    for name in rounds:
        method = name.partition(" ")[2]
        without_base = name == "copy bound, 3 models" or method == "linear"
        bound = "copy bound, 3 models" + ("" if without_base else " and base")
        ratio = median(name, "wall_s") / median(bound, "wall_s")
        theirs = f"mergekit {method}"
        cpu = median(name, "cpu_s")
        beside = f"{cpu / median(theirs, 'cpu_s'):.2f}" if theirs in rounds else ""
        print(
            f"{name:32} {cpu:8.1f} {median(name, 'wall_s'):8.1f} "
            f"{median(name, 'anonymous_nbytes') / 1e6:13.0f} {ratio:11.2f} {beside:>13}"
        )


if __name__ == "__main__":
    main()
