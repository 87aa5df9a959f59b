"""What the Hub refuses, told in words that help, without addresses or tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hub_models import one_file, sharded
from server import TOKEN

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub


def refusal(client: Client, what: str, **options: object) -> str:
    """Return the words of the SourceError that reading `what` ends with."""
    answer = client.run(
        f"source = HubSource('m', {what})\n"
        "answer = told(lambda: [source.read(i) for i in source.headers().tensors.values()])",
        **options,
    )
    assert (answer["kind"], answer["exit"]) == ("SourceError", 5)
    words = answer["words"]
    assert words.isprintable()
    assert not any(s in words for s in (TOKEN, "127.0.0.1", "localhost", "http://", "?"))
    return words


@pytest.mark.parametrize("token", [False, True])
def test_missing_repository(hub: Hub, client: Client, token: bool) -> None:
    words = refusal(client, "'org/nothing'", token=token)
    assert "no such repository on the Hub that you may see" in words
    assert "hf auth login" in words


def test_private_repository(hub: Hub, client: Client) -> None:
    hub.repo("org/model", one_file(), private=True)
    assert "hf auth login" in refusal(client, "'org/model'")
    answer = client.run("answer = len(HubSource('m', 'org/model').headers().tensors)", token=True)
    assert answer == 2


def test_gated_repository(hub: Hub, client: Client) -> None:
    hub.repo("org/model", one_file(), gated=True)
    words = refusal(client, "'org/model'")
    assert "Accept its conditions at https://huggingface.co/org/model" in words
    assert "hf auth login" in words


@pytest.mark.parametrize("revision", ["nope", "v9.9", "0" * 40, "refs/pr/1"])
def test_missing_revision(hub: Hub, client: Client, revision: str) -> None:
    hub.repo("org/model", one_file())
    words = refusal(client, f"'org/model', {revision!r}")
    assert f"no branch, tag or commit '{revision}'" in words


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "renew it with `hf auth login`"),
        (403, "may not read this repository"),
        (429, "rate limit"),
        (500, "out of order (HTTP 500)"),
        (503, "out of order (HTTP 503)"),
        (418, "HTTP 418"),
    ],
)
@pytest.mark.parametrize("where", ["/api/models/", r"/resolve/.*\.safetensors"])
def test_status_that_does_not_pass(
    hub: Hub, client: Client, status: int, said: str, where: str
) -> None:
    hub.repo("org/model", one_file())
    bad_token = {"X-Error-Message": "Invalid credentials in Authorization header"}
    hub.fault(where, status=status, times=99, headers=bad_token if status == 401 else {})
    assert said in refusal(client, "'org/model'", token=True)


def test_retries_are_bounded(hub: Hub, client: Client) -> None:
    hub.fault("/api/models/", status=503, times=99)
    refusal(client, "'org/model'")
    assert len([r for r in hub.log if r.path.startswith("/api/models/")]) == 3


def test_nobody_there(hub: Hub, client: Client) -> None:
    words = refusal(client, "'org/model'", HF_ENDPOINT="http://127.0.0.1:9")
    assert "the Hub cannot be reached" in words
    assert "HF_HUB_OFFLINE=1" in words


def test_file_listed_but_gone(hub: Hub, client: Client) -> None:
    hub.repo("org/model", one_file())
    missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "0" * 40}
    hub.fault(r"/resolve/.*\.safetensors", status=404, headers=missing, times=99)
    assert "a file the repository lists is not there" in refusal(client, "'org/model'")


def test_pickles_only(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {"pytorch_model.bin": b"\x80\x04", "config.json": b"{}"})
    assert "found only pickles" in refusal(client, "'org/model'")
    assert not any("/resolve/" in r.path for r in hub.log)


def test_adapter_repository(hub: Hub, client: Client) -> None:
    hub.repo("org/lora", {"adapter_config.json": b"{}", "adapter_model.safetensors": b""})
    assert "LoRA adapter" in refusal(client, "'org/lora'")


def test_repository_without_files(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {})
    assert "found no weights" in refusal(client, "'org/model'")


def test_absent_shard(hub: Hub, client: Client) -> None:
    files = sharded()
    del files["model-00002-of-00002.safetensors"]
    hub.repo("org/model", files)
    answer = client.run("answer = told(lambda: HubSource('m', 'org/model').headers())")
    assert answer["kind"] == "IntegrityError"
    assert "absent: 'model-00002-of-00002.safetensors'" in answer["words"]


def test_side_file_too_large(hub: Hub, client: Client) -> None:
    hub.repo("org/model", {"tokenizer.json": bytes(64 * 1024 * 1024 + 1)})
    answer = client.run(
        "answer = told(lambda: HubSource('m', 'org/model').side_file('tokenizer.json'))"
    )
    assert answer["kind"] == "IntegrityError"
    assert "at most 67,108,864 bytes, found 67,108,865" in answer["words"]
    assert not any("/resolve/" in r.path for r in hub.log)


def test_names_of_files_that_are_no_names(hub: Hub, client: Client) -> None:
    """A hostile listing: nothing with such a name is asked for."""
    files = one_file() | {"../config.json": b"x", "1_Pooling/../config.json": b"x", "a\n.py": b""}
    hub.repo("org/model", files)
    assert client.run("answer = HubSource('m', 'org/model').side_files()") == ["config.json"]
