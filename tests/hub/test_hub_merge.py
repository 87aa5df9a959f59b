"""A whole merge of models on the Hub: planned without a download, pinned, compared, published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hub_models import sharded

from mdm_kit.ledger.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

RECIPE = """
merge_method: linear
models:
  - {model: org/a, parameters: {weight: 1}}
  - {model: org/b, parameters: {weight: 3}}
"""
RUN = """
import contextlib, io
from mdm_kit.cli.main import main
out, err = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    code = main(WORDS)
answer = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
"""


def run(client: Client, *words: str, **extra: str) -> dict[str, object]:
    return client.run(RUN.replace("WORDS", repr(list(words))), **extra)


@pytest.fixture
def commits(hub: Hub, client: Client) -> dict[str, str]:
    (client.home / "r.yml").write_text(RECIPE)
    return {name: hub.repo(f"org/{name}", sharded()) for name in ("a", "b")}


def test_planned_merged_and_made_again_from_what_was_published(
    client: Client, commits: dict[str, str], tmp_path: Path
) -> None:
    planned = run(client, "plan", "r.yml")
    assert planned["code"] == 0, planned["err"]
    assert f"org/a@{commits['a'][:12]}" in str(planned["out"])
    assert not list(client.cache.rglob("*.safetensors")), "a plan downloads no weight"
    assert run(client, "merge", "r.yml", "out")["code"] == 0
    manifest = Manifest.from_bytes((client.home / "out/mdm_manifest.json").read_bytes())
    assert [s.reference for s in manifest.sources] == [f"org/{n}@{commits[n]}" for n in "ab"]
    assert {f.status for s in manifest.sources for f in s.files} == {"verified"}
    text = (client.home / "out/mergekit_config.yml").read_text()
    assert f'"org/a@{commits["a"]}"' in text
    card = (client.home / "out/README.md").read_text()
    assert "base_model:\n- org/a\n- org/b\nbase_model_relation: merge\n" in card
    assert not list(client.cache.rglob("*.safetensors")), "nor does a merge"
    recipe = "out/mergekit_config.yml"
    again = run(client, "merge", recipe, "again", "--download")
    assert again["code"] == 0, again["err"]
    offline = run(client, "merge", recipe, "offline", HF_HUB_OFFLINE="1")
    assert offline["code"] == 0, offline["err"]
    for path in sorted((client.home / "out").glob("*.safetensors")):
        for other in ("again", "offline"):
            assert (client.home / other / path.name).read_bytes() == path.read_bytes()


def test_a_byte_that_changed_in_the_cache_never_ends_in_a_merge(
    client: Client, commits: dict[str, str]
) -> None:
    assert run(client, "merge", "r.yml", "out", "--download")["code"] == 0
    blob = max(client.cache.glob("models--org--b/blobs/*"), key=lambda p: p.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    answer = run(client, "merge", "r.yml", "other")
    assert answer["code"] == 4
    assert "the Hub declares" in str(answer["err"])
    assert not (client.home / "other").exists()


def test_a_missing_repository_is_told_by_the_plan(client: Client, commits: dict[str, str]) -> None:
    (client.home / "r.yml").write_text(RECIPE.replace("org/b", "org/nobody"))
    answer = run(client, "plan", "r.yml")
    assert answer["code"] == 5
    assert "org/nobody" in str(answer["err"])
    assert "r.yml:5" in str(answer["err"])


def test_a_model_whose_repository_was_renamed_is_told_by_its_new_name(
    hub: Hub, client: Client, commits: dict[str, str]
) -> None:
    """By a branch it is not read; a commit is the same under any name."""
    assert run(client, "merge", "r.yml", "before")["code"] == 0
    hub.rename("org/b", "org/c")
    answer = run(client, "plan", "r.yml")
    assert answer["code"] == 5
    assert "org/b is called 'org/c' now; write that" in str(answer["err"])
    (client.home / "r.yml").write_text(RECIPE.replace("org/b", f"org/b@{commits['b']}"))
    planned = run(client, "plan", "r.yml")
    assert planned["code"] == 0, planned["err"]
    assert "r.yml:5:5: warning: model 'b', org/b: the repository is called org/c now" in str(
        planned["err"]
    )
    assert run(client, "merge", "r.yml", "after")["code"] == 0
    for path in (client.home / "before").glob("*.safetensors"):
        assert (client.home / "after" / path.name).read_bytes() == path.read_bytes()
