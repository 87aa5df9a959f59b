"""Merges of large models by the command line, of a Hub and of the same folders on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from large_models import MEMORY, MODELS
from test_hub_merge import RUN

from mdm_kit.bundle.stage import work_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from conftest import Client
    from server import Hub, Request

SETTINGS = {
    "linear": ("{weight: 0.5}", ""),
    "task_arithmetic": ("{weight: 0.5}", ""),
    "mdm_oc": ("{weight: 0.5}", ""),
    "mdm_oc global": ("{weight: 0.5}", "scope: global"),
    "ties": ("{weight: 0.5, density: 0.4}", ""),
    "model_stock": ("{}", ""),
}


def recipe(where: str, method: str, revision: str = "") -> str:
    """Return the recipe of the models at `where`, the last at a revision."""
    own, shared = SETTINGS[method]
    base = "" if method == "linear" else f"base_model: {where}/base\n"
    last = f"{where}/b@{revision}" if revision else f"{where}/b"
    return (
        f"merge_method: {method.partition(' ')[0]}\n{base}parameters: {{{shared}}}\nmodels:\n"
        f"  - {{model: {where}/a, parameters: {own}}}\n  - {{model: {last}, parameters: {own}}}\n"
    )


class Case:
    """Models in folders, and what merging them here gives."""

    def __init__(self, root: Path, write: Callable[[Path], None]) -> None:
        self.root = root
        write(root)
        self.nbytes = sum(p.stat().st_size for p in root.rglob("*.safetensors"))
        self._merged: dict[tuple[str, ...], dict[str, bytes]] = {}

    @property
    def nbytes_each(self) -> int:
        """Bytes of tensors in each model of one file."""
        with (self.root / "a/model.safetensors").open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        return (self.root / "a/model.safetensors").stat().st_size - 8 - header

    def merged(self, method: str, *words: str) -> dict[str, bytes]:
        """Return the weight files of a merge without a Hub."""
        if (method, *words) not in self._merged:
            out = self.root / f"merged{len(self._merged)}"
            (self.root / "r.yml").write_text(recipe(str(self.root), method))
            command = [sys.executable, "-m", "mdm_kit", "merge", str(self.root / "r.yml"), str(out)]
            subprocess.run([*command, *words], check=True, capture_output=True, timeout=120)
            self._merged[(method, *words)] = weights(out)
        return self._merged[(method, *words)]


def weights(out: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes() for p in sorted(out.glob("*.safetensors")) if "mdm" not in p.name
    }


class Merges:
    """Runs the command line against the Hub."""

    def __init__(self, hub: Hub, client: Client) -> None:
        self.hub, self.client = hub, client
        self.out = client.home / "out"

    def offer(self, case: Case, **settings: Any) -> dict[str, str]:
        """Put the models into repositories of `org`; return their commits."""
        folders = {name: case.root / name for name in MODELS}
        return {n: self.hub.repo_folder(f"org/{n}", f, **settings) for n, f in folders.items()}

    def run(self, *words: str, token: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = self.client.run(
            RUN.replace("WORDS", repr(list(words))), token=token
        )
        return found

    def merge(self, case: Case, method: str, *words: str, token: bool = False) -> dict[str, Any]:
        (self.client.home / "r.yml").write_text(recipe("org", method))
        return self.run("merge", "r.yml", "out", *MEMORY, *words, token=token)

    def started(self, case: Case, method: str, *words: str) -> subprocess.Popen[str]:
        """Start a merge."""
        (self.client.home / "r.yml").write_text(recipe("org", method))
        told = ["merge", "r.yml", "out", *MEMORY, *words]
        return self.client.start(RUN.replace("WORDS", repr(told)))

    def finished(
        self,
        case: Case,
        method: str,
        *,
        words: Sequence[str] = (),
        token: bool = False,
    ) -> Path:
        """Merge; the weights are those of the merge without a Hub. Return where they are."""
        answer = self.merge(case, method, *words, token=token)
        assert answer["code"] == 0, answer["err"]
        assert self.weights() == case.merged(method)
        return self.out

    def plan(
        self,
        case: Case | None,
        method: str,
        words: Sequence[str] = MEMORY,
        *,
        revision: str = "",
        token: bool = False,
    ) -> dict[str, Any]:
        (self.client.home / "r.yml").write_text(recipe("org", method, revision))
        return self.run("plan", "r.yml", "--json", *words, token=token)

    def planned(self, case: Case, method: str, words: Sequence[str] = MEMORY) -> dict[str, Any]:
        answer = self.plan(case, method, words)
        assert answer["code"] == 0, answer["err"]
        found: dict[str, Any] = json.loads(answer["out"])
        return found

    def weights(self) -> dict[str, bytes]:
        return weights(self.out)

    def has_journal(self) -> bool:
        """Whether an interrupted merge left something to go on from."""
        return work_folder(self.out).exists()


def content(log: Iterable[Request]) -> list[Request]:
    """Return the requests that were answered with weights."""
    return [
        r
        for r in log
        if r.method == "GET"
        and r.status == 206
        and ("/cdn/" in r.path or r.path.endswith(".safetensors"))
        and not (r.range or "").startswith("bytes=0-")
    ]


def data_nbytes(log: Iterable[Request]) -> int:
    """Return how many bytes beyond the headers were sent."""
    return sum(r.sent for r in content(log))


def resolved(log: Iterable[Request]) -> list[Request]:
    """Return the requests to the Hub itself for weight files."""
    return [r for r in log if "/resolve/" in r.path and r.path.endswith(".safetensors")]
