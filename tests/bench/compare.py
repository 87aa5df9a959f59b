"""Merges one family with mdm_kit, with mergekit, and with nothing but reading and writing.

    python tests/bench/compare.py                      a family of a billion parameters, 8 GB
    python tests/bench/compare.py --elements 2e8 --runs 1
    python tests/bench/compare.py --elements 2e8 --runs 1 --methods ties,slerp

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
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from family import write_family
from measured import Measured, measure

MERGEKIT = "import sys; from mergekit.scripts.run_yaml import main; sys.exit(main())"


@dataclass(frozen=True)
class Case:
    """What a method is tried with: how many models, with a base or without, its parameters."""

    models: int = 3
    base: bool = True
    each: str = "weight: 0.4"
    shared: str = ""


CASES = {
    "linear": Case(base=False),
    "task_arithmetic": Case(),
    "mdm_oc": Case(),
    "ties": Case(each="weight: 0.4, density: 0.5"),
    "dare_linear": Case(each="weight: 0.4, density: 0.5"),
    "dare_ties": Case(each="weight: 0.4, density: 0.5"),
    "della": Case(each="weight: 0.4, density: 0.5"),
    "della_linear": Case(each="weight: 0.4, density: 0.5"),
    "breadcrumbs": Case(each="weight: 0.4, density: 0.9"),
    "breadcrumbs_ties": Case(each="weight: 0.4, density: 0.9"),
    "sce": Case(each="", shared="select_topk: 0.5"),
    "model_stock": Case(each=""),
    "slerp": Case(models=1, each="", shared="t: 0.4"),
    "nuslerp": Case(models=2),
    "multislerp": Case(),
    "karcher": Case(base=False, each=""),
    "nearswap": Case(models=1, each="", shared="t: 0.001"),
    "arcee_fusion": Case(models=1, each=""),
    "ram": Case(each=""),
    "ramplus_tl": Case(each=""),
}
OURS_ALONE = ("mdm_oc",)


def recipe(method: str, folders: list[Path]) -> str:
    base, *models = folders
    case = CASES[method]
    lines = [f"merge_method: {method}", "dtype: bfloat16"]
    lines += [f"base_model: {base}"] if case.base else []
    lines += [f"parameters: {{{case.shared}}}"] if case.shared else []
    own = f", parameters: {{{case.each}}}" if case.each else ""
    lines += ["models:", *(f"  - {{model: {m}{own}}}" for m in models[: case.models])]
    return "\n".join(lines) + "\n"


def bound_of(method: str) -> str:
    """Return the name of the copy bound that reads what the method reads."""
    case = CASES[method]
    return f"copy bound, {case.models} model(s)" + (" and base" if case.base else "")


def commands(
    root: Path, folders: list[Path], threads: int, methods: list[str]
) -> dict[str, list[str]]:
    """Return the commands of a round by name; `OUT` stands for the output."""
    run = {}
    base, *models = (str(f / "model.safetensors") for f in folders)
    bound = [sys.executable, str(Path(__file__).parent / "copy_bound.py"), "OUT", str(threads)]
    for method in methods:
        case = CASES[method]
        run[bound_of(method)] = [*bound, *([base] if case.base else []), *models[: case.models]]
    has_mergekit = importlib.util.find_spec("mergekit") is not None
    for method in methods:
        path = root / f"{method}.yml"
        path.write_text(recipe(method, folders))
        ours = [sys.executable, "-m", "mdm_kit", "merge", str(path), "OUT"]
        run[f"mdm_kit {method}"] = [*ours, "--threads", str(threads)]
        if has_mergekit and method not in OURS_ALONE:
            run[f"mergekit {method}"] = [sys.executable, "-c", MERGEKIT, str(path), "OUT"]
    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--elements", type=float, default=1e9)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--methods",
        default="linear,task_arithmetic,mdm_oc",
        help="some of " + ", ".join(CASES) + "; or all",
    )
    parser.add_argument("--folder", type=Path, default=None, help="where to put the family")
    given = parser.parse_args()
    methods = list(CASES) if given.methods == "all" else given.methods.split(",")
    root = Path(tempfile.mkdtemp(prefix="mdm-kit-bench-", dir=given.folder))
    try:
        folders = write_family(root / "family", given.elements, 3)
        rounds: dict[str, list[Measured]] = {}
        for i in range(1 + given.runs):
            for name, command in commands(root, folders, given.threads, methods).items():
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
        bound = name if name.startswith("copy") else bound_of(method)
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
