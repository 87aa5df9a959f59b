"""Merges models of a Hub on loopback: by range, and by downloading them first.

    python tests/bench/hub.py                          three models and a base of 1 GB each
    python tests/bench/hub.py --elements 2e8 --runs 1 --delay-ms 50

Every round runs each command once, in turn, each with an empty cache. The server runs beside them
in its own process and shares the processors. `snapshot_download` is the Hub client's own way to get
the same weights, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from family import write_family
from measured import Measured, measure

SERVER = Path(__file__).parent.parent / "hub" / "server.py"
SNAPSHOTS = """
import sys
from huggingface_hub import snapshot_download
for name in sys.argv[1:]:
    snapshot_download(name)
"""


@dataclass(frozen=True)
class Run:
    """One run of a command: what it took, what the server sent, what lies in the cache."""

    measured: Measured
    sent: int
    requests: int
    cached: int


@contextmanager
def server(folder: Path, delay_ms: float) -> Iterator[str]:
    """Serve a folder of repositories; yields the address."""
    command = [sys.executable, str(SERVER), "--folder", str(folder), "--redirect"]
    child = subprocess.Popen(
        [*command, "--delay-ms", str(delay_ms)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        yield child.stdout.readline().strip().split()[-1]
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()


def one_run(command: list[str], url: str, root: Path) -> Run:
    home = root / "home"
    os.environ["HF_HOME"] = str(home)
    before = log(url)
    measured = measure(command)
    lines = log(url)[len(before) :]
    cached = sum(p.stat().st_size for p in home.rglob("blobs/*") if p.is_file())
    shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(root / "out", ignore_errors=True)
    content = [line for line in lines if line["sent"] > 1_000_000]
    return Run(measured, sum(line["sent"] for line in lines), len(content), cached)


def log(url: str) -> list[dict[str, int]]:
    with urllib.request.urlopen(url + "/log") as answer:  # noqa: S310 -- our own server
        found: list[dict[str, int]] = json.load(answer)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--elements", type=float, default=5e8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="latency of every answer")
    parser.add_argument("--method", default="task_arithmetic")
    parser.add_argument("--folder", type=Path, default=None, help="where to put the family")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="mdm-kit-bench-", dir=given.folder))
    try:
        names = [f.name for f in write_family(root / "hub" / "org", given.elements, 3)]
        repos = [f"org/{name}" for name in names]
        recipe = root / "recipe.yml"
        models = "".join(f"\n  - {{model: {r}, parameters: {{weight: 0.4}}}}" for r in repos[1:])
        recipe.write_text(
            f"merge_method: {given.method}\nbase_model: {repos[0]}\nmodels:{models}\n"
        )
        merge = [sys.executable, "-m", "mdm_kit", "merge", str(recipe), str(root / "out")]
        commands = {
            "snapshot_download": [sys.executable, "-c", SNAPSHOTS, *repos],
            "merge by range": merge,
            "merge --download": [*merge, "--download"],
        }
        with server(root / "hub", given.delay_ms) as url:
            os.environ |= {"HF_ENDPOINT": url, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
            os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1"}
            one_run(merge, url, root)  # compiles the kernels where nobody has
            rounds = [
                {name: one_run(command, url, root) for name, command in commands.items()}
                for _ in range(given.runs)
            ]
        show(rounds, given.runs)
    finally:
        shutil.rmtree(root)


def show(rounds: list[dict[str, Run]], runs: int) -> None:
    print(f"median of {runs}; the server takes part of the same processors")
    print(
        f"{'':20} {'wall s':>7} {'MB/s':>6} {'CPU s':>6} {'anonymous MB':>13} {'sent MB':>8} "
        f"{'requests':>9} {'cached MB':>10} {'wall/snapshot':>14}"
    )

    def wall(name: str) -> float:
        return statistics.median(r[name].measured.wall_s for r in rounds)

    for name, last in rounds[-1].items():
        print(
            f"{name:20} {wall(name):7.1f} {last.sent / wall(name) / 1e6:6.0f} "
            f"{last.measured.cpu_s:6.1f} {last.measured.anonymous_nbytes / 1e6:13.0f} "
            f"{last.sent / 1e6:8.0f} {last.requests:9} {last.cached / 1e6:10.0f} "
            f"{wall(name) / wall('snapshot_download'):14.2f}"
        )


if __name__ == "__main__":
    main()
