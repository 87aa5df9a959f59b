"""What the tests of publishing share: a merge to publish, commands to run, and what the Hub saw."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from families import write_family

import mdm_kit

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client
    from server import Hub

SHARD = "1500B"
"""Makes a shard of each tensor of these models."""
SPEC = {f"model.layers.{i}.mlp.up.weight": ((40, 16), torch.bfloat16) for i in range(9)}
RUN = """
import contextlib, io
from mdm_kit.cli.main import main
out, err = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    code = main(WORDS)
answer = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
"""


def code_of(*words: str) -> str:
    """Return the program that runs a command, for `Client.start`."""
    return RUN.replace("WORDS", repr(list(words)))


def run(client: Client, *words: str, **options: Any) -> dict[str, Any]:
    """Run a command as somebody who is logged in; return its code and what it printed."""
    answer: dict[str, Any] = client.run(code_of(*words), **{"token": True, **options})
    return answer


def ok(client: Client, *words: str, **options: Any) -> dict[str, Any]:
    """Run a command that must succeed; return its JSON document."""
    answer = run(client, *words, "--json", **options)
    assert answer["code"] == 0, answer["err"]
    found: dict[str, Any] = json.loads(answer["out"])
    return found


def write_recipe(home: Path, *, seed: int = 0, more: str = "") -> None:
    """Write a family of models and a recipe `r.yml` that merges them."""
    write_family(home, SPEC, n=2, seed=seed)
    (home / "r.yml").write_text(
        "merge_method: mdm_oc\nbase_model: ./base\n"
        f"models: [{{model: ./m1}}, {{model: ./m2}}]\n{more}"
    )


def merge(home: Path, out: str = "out", *, shard_nbytes: int = 1500) -> Path:
    """Merge the recipe in a folder, here and now."""
    text = (home / "r.yml").read_text().replace("./", f"{home}/")
    mdm_kit.merge(text + "\n", home / out, shard_nbytes=shard_nbytes)
    return home / out


def commits(hub: Hub, repo: str = "tester/merged") -> int:
    """Return how many commits a push made."""
    return sum(
        r.path.startswith(f"/api/models/{repo}/commit/") and r.status == 200 for r in hub.log
    )


def puts(hub: Hub) -> list[str]:
    """Return the paths of large files that were sent and stored, one for each time."""
    return [r.path for r in hub.log if r.method == "PUT" and r.status == 200]


def remote_files(hub: Hub, repo: str = "tester/merged", revision: str = "main") -> dict[str, bytes]:
    """Return what a branch holds."""
    there = hub.repos[repo]
    oid = there.resolve(revision)
    assert oid is not None
    return {name: blob.read() for name, blob in there.commits[oid].files.items()}


def fetched(hub: Hub, folder: Path) -> Path:
    """Write what is published to a folder, as somebody does who downloads it."""
    for name, data in remote_files(hub).items():
        if name != ".gitattributes":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return folder


def commit_beside(hub: Hub, files: dict[str, bytes], repo: str = "tester/merged") -> str:
    """Commit more files to a repository, as somebody else does."""
    return hub.repos[repo].commit({**remote_files(hub, repo), **files})


def published(folder: Path) -> dict[str, bytes]:
    """Return what of a folder belongs on the Hub."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".mdm_local.json"
    }
