"""A mixture of models that are read by range: a local one's bytes, its downloads as planned."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from mixtures import recipe, write_dense
from ranged_merges import Merges, data_nbytes, weights

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hub


@pytest.mark.parametrize("mode", ["hidden", "cheap_embed", "random"])
def test_a_mixture_comes_by_range(merges: Merges, tmp_path: Path, mode: str) -> None:
    write_dense(tmp_path / "dense", "llama", hidden_size=128, intermediate_size=512)
    for name in ("base", "words", "sums"):
        merges.hub.repo_folder(f"org/{name}", tmp_path / "dense" / name)
    text = recipe(tmp_path / "dense", mode=mode)
    (merges.client.home / "r.yml").write_text(text.replace(str(tmp_path / "dense"), "org"))
    planned = merges.run("plan", "r.yml", "--json")
    assert planned["code"] == 0, planned["err"]
    before = len(merges.hub.log)
    answer = merges.run("merge", "r.yml", "out")
    assert answer["code"] == 0, answer["err"]
    sent = data_nbytes(merges.hub.log[before:])
    announced = json.loads(planned["out"])["costs"]["download_nbytes"]
    # Rows of the prompts' tokens come besides: the whole embedding is small here.
    assert abs(sent - announced) < 100_000
    (tmp_path / "here.yml").write_text(text)
    command = [sys.executable, "-m", "mdm_kit", "merge", str(tmp_path / "here.yml")]
    subprocess.run([*command, str(tmp_path / "here")], check=True, capture_output=True, timeout=120)
    assert weights(merges.out) == weights(tmp_path / "here")
    answer = merges.run("verify", "--deep", "out")
    assert answer["code"] == 0, answer["err"]
