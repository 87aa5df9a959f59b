"""Attack: files that are huge, deep, or made to be slow to read."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from mdm_kit.recipe import load_recipe_file, read_recipe_text
from mdm_kit.recipe.yaml_nodes import MAX_BYTES, MAX_DEPTH

HEAD = "merge_method: linear\nmodels: [{model: org/a}]\n"


def filled(unit: str) -> str:
    return unit * (MAX_BYTES // len(unit.encode()))


SLOW = {
    "open lists": filled("["),
    "open mappings": filled("{"),
    "nested block": filled("- "),
    "nested keys": filled("? "),
    "empty mappings": f"[{filled('{},')[:-4]}]",
    "keys": "".join(f"k{i}:\n" for i in range(49_000)),
    "merge keys": "".join(f"<<: {i}\n" for i in range(49_000)),
    "tags": filled("- !t a\n"),
    "anchors": "".join(f"- &a{i} x\n" for i in range(85_000)),
    "tag directives": filled("%TAG !a! tag:x\n"),
    "comments": filled("#\n"),
    "comments after an anchor": f"a: &a{filled(' #' + chr(10))[:-9]} x",
    "documents": filled("---\n"),
    "one scalar": f"a: {filled('x')[:-3]}",
    "one quoted scalar": f"a: '{filled('x' + chr(10))[:-6]}'",
    "one block scalar": "a: |\n" + filled(" x\n")[:-6],
    "blank lines": f"a: '{filled(chr(10))[:-6]}'",
    "spaces": filled(" "),
    "digits": f"seed: {filled('9')[:-10]}x",
    "groups": f"seed: {filled('9_')[:-10]}x",
    "times": f"seed: {filled('9:')[:-10]}x",
    "models": f"merge_method: x\nmodels: [{'{model: b},' * 30_000}]",
    "ats": f"models: [{{model: '{filled('@')[:-30]}'}}]",
}


@pytest.mark.parametrize("name", SLOW)
def test_a_mebibyte_of_anything_is_read_in_a_second(name: str) -> None:
    """About 0.7 s at worst on a quiet machine; the bound leaves room for a busy one, and what
    is quadratic takes minutes."""
    text = SLOW[name]
    assert len(text.encode()) <= MAX_BYTES
    start = time.process_time()
    parsed = read_recipe_text(text)
    parsed.render()
    assert time.process_time() - start < 3.0
    assert not parsed.ok


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_stays_under_200_mb() -> None:
    """In a process of its own. `ru_maxrss` would not do: it starts at the parent's size."""
    program = (
        "from mdm_kit.recipe import read_recipe_text\n"
        "for text in ('[' + 'a,' * 49_000 + ']', '- &a' + ' #\\n' * 300_000 + ' x',"
        " ''.join(f'k{i}:\\n' for i in range(49_000)), 'a: ' + 'é' * 500_000):\n"
        "    read_recipe_text(text).render()\n"
        "(peak,) = [line for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
        "print(peak.split()[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 200 * 1000


def test_a_byte_too_many() -> None:
    exactly = HEAD + "#" * (MAX_BYTES - len(HEAD))
    assert read_recipe_text(exactly).ok
    assert read_recipe_text(exactly.encode()).ok
    parsed = read_recipe_text(exactly + "#")
    assert parsed.recipe is None
    (finding,) = parsed.findings
    assert finding.message.startswith("expected a recipe of at most 1.0 MB")
    assert finding.place is None


def test_bytes_are_counted_and_not_characters() -> None:
    text = HEAD + "#" + "é" * (MAX_BYTES // 2)
    assert len(text) < MAX_BYTES
    assert not read_recipe_text(text).ok


def test_a_model_too_many() -> None:
    def messages(n: int) -> list[str]:
        items = ", ".join(f"{{model: org/m{i}}}" for i in range(n))
        return [f.message for f in read_recipe_text(f"merge_method: x\nmodels: [{items}]").findings]

    assert messages(1000) == []
    assert messages(1001) == ["models: expected at most 1,000 models, found 1,001"]


def test_of_a_huge_file_only_the_start_is_read(tmp_path) -> None:
    file = tmp_path / "huge.yml"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)  # a sparse tebibyte of zeros
    start = time.process_time()
    parsed = load_recipe_file(file)
    assert time.process_time() - start < 1.0
    assert "expected a recipe of at most" in parsed.findings[0].message


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_one_level_too_deep(opening: str, closing: str) -> None:
    def nested(depth: int) -> list[str]:
        text = f"x: {opening * (depth - 1)}1{closing * (depth - 1)}\n"
        return [f.message for f in read_recipe_text(text).findings if "nesting" in f.message]

    assert nested(MAX_DEPTH) == []
    assert nested(MAX_DEPTH + 1) == [f"expected at most {MAX_DEPTH} levels of nesting, found more"]


def test_depth_a_thousand_times_over_has_a_place() -> None:
    parsed = read_recipe_text("- " * 30_000)
    (finding,) = parsed.findings
    assert "nesting" in finding.message
    assert finding.place is not None
    assert finding.place.column == 2 * MAX_DEPTH + 1


def test_a_flood_of_findings_is_cut() -> None:
    parsed = read_recipe_text("".join(f"key{i}: 1\n" for i in range(40_000)))
    assert len(parsed.findings) == 101
    assert "more problems are not shown" in parsed.findings[-1].message
    assert len(parsed.render()) < 100_000
