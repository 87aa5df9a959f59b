"""A merge of models that not everybody may see goes public only when somebody says so."""

from __future__ import annotations

import pytest
from conftest import Client
from hub_models import sharded
from pushes import ok, run
from server import Hub

pytestmark = pytest.mark.hub
REPO = "tester/merged"
MERGE = ("merge", "r.yml", "out", "--push", REPO)
EMPTY = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


@pytest.fixture(params=["private", "gated", "unlicensed"])
def parents(request: pytest.FixtureRequest, client: Client, hub: Hub) -> str:
    card = b"---\nlicense: mit\n---\n"
    settings = {"private": {"private": True}, "gated": {"gated": "auto"}}.get(request.param, {})
    for name in "ab":
        files = sharded() | ({} if request.param == "unlicensed" else {"README.md": card})
        hub.repo(f"org/{name}", files, **settings)
    (client.home / "r.yml").write_text(
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: org/a}, {model: org/b}]\n"
    )
    return str(request.param)


def test_a_public_repository_wants_the_word(client: Client, hub: Hub, parents: str) -> None:
    hub.repo(REPO, EMPTY)
    for words in (("plan", "r.yml", "--push", REPO), MERGE):
        said = run(client, *words)
        assert said["code"] == 2, said["err"]
        assert "--public" in said["err"]
        assert "org/a" in said["err"] or "a:" in said["err"]
    assert not (client.home / "out").exists()
    assert ok(client, *MERGE, "--public")["published"]["private"] is False


def test_a_new_repository_is_private_without_a_word(client: Client, hub: Hub, parents: str) -> None:
    assert ok(client, *MERGE)["published"]["private"] is True
