"""Merges that keep sums, of models on the Hub and of the same folders on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from continual import addition, growing_recipe, write_growing
from published import files_of
from pushes import ok, run

import mdm_kit
from mdm_kit.ledger.manifest import MANIFEST_NAME, Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Client
    from server import Hub

REPO, KEPT = "tester/grown", "tester/grown-deltas"
METHODS = ("opcm", "covmerge")
SHARD = 4000
"""Makes several shards of these models."""
APACHE = b"---\nlicense: apache-2.0\npipeline_tag: text-generation\n---\n"


class Family:
    """A base and fine-tunes `m1`, `m2`, ... in folders here and in repositories of `org`."""

    def __init__(self, hub: Hub, client: Client, kind: str = "odd", n: int = 3) -> None:
        self.hub, self.client = hub, client
        self.root = client.home / "models"
        write_growing(self.root, kind, n)
        self._gone: dict[str, object] = {}
        for folder in sorted(self.root.iterdir()):
            (folder / "README.md").write_bytes(APACHE)
            hub.repo_folder(f"org/{folder.name}", folder)

    def recipe(self, method: str, models: Sequence[int], keep: str = "state") -> str:
        """Write `r.yml`, a recipe of some of the models; return its name."""
        text = growing_recipe(Path("org"), method, models, keep=keep)
        (self.client.home / "r.yml").write_text(text)
        return "r.yml"

    def forget(self, *names: str) -> None:
        """Take models from the Hub, and every trace of them from the cache."""
        for name in names:
            self._gone[name] = self.hub.repos.pop(f"org/{name}")
            for there in self.client.cache.glob(f"models--org--{name}"):
                shutil.rmtree(there)

    def back(self, name: str) -> None:
        """Put a model back as it was."""
        self.hub.repos[f"org/{name}"] = self._gone.pop(name)  # type: ignore[assignment]

    def here(
        self, method: str, models: Sequence[int], keep: str = "state", *, then: Sequence[int] = ()
    ) -> dict[str, bytes]:
        """Return what merging the folders gives, `then` being added one by one."""
        out = self.client.home / f"here{len(list(self.client.home.glob('here*')))}"
        text = growing_recipe(self.root, method, models, keep=keep)
        mdm_kit.merge(text, out, shard_nbytes=SHARD)
        running = mdm_kit.Running(shard_nbytes=SHARD)
        for i in then:
            before, out = out, out.with_name(f"{out.name}+{i}")
            mdm_kit.add(before, out, [addition(self.root, i, method)], running=running)
        return promised(out)


def promised(folder: Path) -> dict[str, bytes]:
    """Return weights, kept sums and what is copied: the same wherever the models lay."""
    said = (MANIFEST_NAME, "README.md", "mergekit_config.yml", "mdm_recipe.yml")
    return {n: data for n, data in files_of(folder).items() if n not in said}


def pushed(client: Client, recipe: str, *words: str) -> dict[str, object]:
    """Merge a recipe into `first` and push it; return what the command says."""
    shard = ("--shard-size", f"{SHARD}B")
    return ok(client, "merge", recipe, "first", "--push", REPO, *shard, *words)


def add(client: Client, method: str, source: str, out: str, i: int) -> str:
    """Add model i of the Hub to a merge by the command line; return what it tells."""
    weight = addition(Path("org"), i, method).weight
    more = () if weight is None else ("--weight", str(weight))
    words = ("add", source, out, "--model", f"org/m{i}", *more, "--shard-size", f"{SHARD}B")
    said = run(client, *words)
    assert said["code"] == 0, said["err"]
    return str(said["err"])


def unmerge(client: Client, source: str, out: str, drop: str, *words: str) -> None:
    """Take a model out of a merge by the command line."""
    shard = ("--shard-size", f"{SHARD}B")
    said = run(client, "unmerge", source, out, "--drop", drop, *shard, *words)
    assert said["code"] == 0, said["err"]


def manifest(hub: Hub, commit: str | None = None) -> Manifest:
    """Return the manifest a commit of the repository holds, the newest if none is named."""
    repo = hub.repos[REPO]
    files = repo.commits[commit or repo.refs["main"]].files
    return Manifest.from_bytes(files[MANIFEST_NAME].read())
