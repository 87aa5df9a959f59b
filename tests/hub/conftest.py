"""A Hub and a client in its own process: the client reads its environment when imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from server import TOKEN, Hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRELUDE = """
import json, sys
from mdm_kit.errors import MdmError
from mdm_kit.sources import HubSource, open_source
from mdm_kit.words import ModelRef
import mdm_kit.sources.hub_failures as hub_failures
hub_failures.RETRY_WAITS_S = (0.01, 0.02)
def told(call):
    try:
        call()
    except MdmError as error:
        return {"kind": type(error).__name__, "exit": error.exit_code, "words": str(error)}
    return None
"""


class Client:
    """Runs code against the Hub, with a cache of its own."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.hub, self.home = hub, home

    def run(self, code: str, *, token: bool = False, **extra: str) -> Any:
        """Run `code`, return the `answer` it leaves; fail with its stderr if it fails."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONWARNINGS": "error",
            **({"HF_TOKEN": TOKEN} if token else {}),
            **extra,
        }
        text = f"{PRELUDE}\n{code}\nprint(json.dumps(answer))"
        done = subprocess.run(
            [sys.executable, "-c", text],
            env=env,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def cache(self) -> Path:
        return self.home / "hf" / "hub"


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path)
