"""A Hub and a client in its own process: the client reads its environment when imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from ranged_merges import Merges
from server import TOKEN, Hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""Programs that were started in the background may have been told to ignore it."""
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

STOCK = """
import json
from huggingface_hub import *
from huggingface_hub.errors import HfHubHTTPError
api = HfApi()
def refused(call):
    try:
        call()
    except (HfHubHTTPError, RuntimeError) as error:
        error = error if isinstance(error, HfHubHTTPError) else error.__cause__
        return [type(error).__name__, error.response.status_code]
    return None
"""
"""The client alone, without the kit: what tests of the server itself speak with."""

WARNINGS = "error,ignore:Use 'content=<...>' to upload:DeprecationWarning"
"""Warnings are errors, but for what huggingface_hub 2.4 does whenever it puts a large file."""


class Client:
    """Runs code against the Hub in a process of its own, with a cache of its own."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.hub, self.home = hub, home

    def env(self, *, token: bool | str = False, xet: bool = False, **extra: str) -> dict[str, str]:
        """Return the environment such a process has; `token` is True for the usual one."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.hub.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONWARNINGS": WARNINGS,
            **({} if xet else {"HF_HUB_DISABLE_XET": "1"}),
            **({"HF_TOKEN": TOKEN if token is True else token} if token else {}),
            **extra,
        }

    def start(self, code: str, *, prelude: str = PRELUDE, **options: Any) -> subprocess.Popen[str]:
        """Start `code`, which leaves an `answer` that is printed as JSON; take `env`'s options."""
        return subprocess.Popen(
            [sys.executable, "-c", f"{CTRL_C}\n{prelude}\n{code}\nprint(json.dumps(answer))"],
            env=self.env(**options),
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, **options: Any) -> Any:
        """Run `code`, return the `answer` it leaves; fail with its stderr if it fails."""
        with self.start(code, **options) as process:
            try:
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
        assert process.returncode == 0, err
        return json.loads(out)

    def stock(self, code: str, **options: Any) -> Any:
        """The same with the stock client, and with a token if nothing else is said."""
        return self.run(code, **{"prelude": STOCK, "token": True, **options})

    @property
    def cache(self) -> Path:
        return self.home / "hf" / "hub"


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.close()


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path)


@pytest.fixture
def merges(hub: Hub, client: Client) -> Merges:
    return Merges(hub, client)
