"""Every recipe of the repository is right in itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdm_kit.api import check_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_reads_without_a_finding(path: Path) -> None:
    parsed = check_recipe(path)
    assert parsed.ok, parsed.render()
    assert not parsed.findings, parsed.render()
    assert parsed.text.startswith("# ")
