"""Runs a command as a child process and measures it from outside."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """CPU and wall seconds, and the highest anonymous memory seen (bytes; Linux only)."""

    cpu_s: float
    wall_s: float
    anonymous_nbytes: int


def measure(command: Sequence[str]) -> Measured:
    """Run `command` to its end; raises `CalledProcessError` if it fails."""
    started = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, _anonymous(child.pid))
        time.sleep(SAMPLE_S)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return Measured(usage.ru_utime + usage.ru_stime, time.monotonic() - started, peak)


def _anonymous(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    rows = [line.split() for line in text.splitlines() if line.startswith("RssAnon")]
    return int(rows[0][1]) * 1024 if rows else 0
