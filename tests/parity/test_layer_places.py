"""What names say about layers, against the tables mergekit ships for its architectures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from mdm_kit.planner.patterns import is_before_layers, layer_position

MERGEKIT = find_spec("mergekit")
pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(MERGEKIT is None, reason="mergekit is not installed"),
]

NO_LAYERS_OF_THE_MODEL = ("merger",)
"""Modules mergekit counts as layers, so that they can be sliced, and no hidden state walks
through in turn: Qwen-VL's mergers."""
OTHERWISE = {
    "model.embedding_norm.weight",  # LFM2 applies it after its layers
    "layers.0.wte.weight",  # Phi-1's first code counted embedding and head as layers
}


@dataclass(frozen=True)
class Table:
    """The names of one module: before its layers, in them, after them."""

    before: list[str]
    inside: list[str]
    after: list[str]


def tables() -> Iterator[tuple[str, Table]]:
    home = Path(MERGEKIT.origin).parent if MERGEKIT and MERGEKIT.origin else Path("nowhere")
    for file in sorted((home / "_data" / "architectures").glob("*.json")):
        whole = json.loads(file.read_text())
        for module, entry in whole.get("modules", {"all": {"architecture": whole}}).items():
            prefix = entry.get("weight_prefix") or ""
            if prefix and not prefix.endswith("."):
                continue  # Whisper's decoder: the names it gives are those of no model
            found = entry["architecture"]
            groups = (
                found["pre_weights"],
                found["layer_templates"]["weights"],
                found["post_weights"],
            )
            names = [[prefix + weight["name"] for weight in group] for group in groups]
            yield f"{file.name} {module}", Table(*names)


TABLES = dict(tables())


@pytest.mark.parametrize("module", TABLES)
def test_names_stand_where_mergekit_has_them(module: str) -> None:
    table = TABLES[module]
    for name in table.before:
        if name not in OTHERWISE:
            assert is_before_layers(name), name
            assert layer_position(name) is None, name
    for name in table.after:
        if "${num_layers}" not in name:
            assert not is_before_layers(name), name
            assert layer_position(name) is None, name
    for template in table.inside:
        if not any(part in template for part in NO_LAYERS_OF_THE_MODEL):
            position = layer_position(template.replace("${layer_index}", "7"))
            assert position is not None, template
            assert position.index == 7, template


def test_there_are_tables() -> None:
    assert len(TABLES) > 60
    assert sum(len(t.inside) for t in TABLES.values()) > 500
