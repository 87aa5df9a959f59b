"""The demo's recipe says what it merges, and reads back."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdm_kit.demo.family import Family, Skill
from mdm_kit.demo.recipe import WEIGHT, demo_recipe
from mdm_kit.demo.skills import Task
from mdm_kit.recipe import read_recipe_text


def family(folder: Path) -> Family:
    names = ("upper", "roman", "date")
    skills = tuple(Skill(Task(name, f"about {name}", (), ()), folder / name) for name in names)
    return Family(folder / "base", skills)


@pytest.mark.parametrize(
    "folder",
    ["/a/b", "/my/with space: and 'quotes\"", "/my/name@home", "/c++/x", "/größe/語", "/x #1"],
)
def test_it_names_base_skills_and_weights(folder):
    recipe = read_recipe_text(demo_recipe(family(Path(folder)))).require()
    assert recipe.merge_method.text == "mdm_oc"
    assert recipe.base_model is not None
    assert Path(recipe.base_model.ref.path) == Path(folder) / "base"
    assert [entry.name for entry in recipe.models] == ["upper", "roman", "date"]
    for entry in recipe.models:
        assert Path(entry.ref.path) == Path(folder) / entry.name
        assert entry.ref.revision is None
        assert entry.setting("weight").text == str(WEIGHT)
    assert recipe.dtype.torch_name == "float32"


def test_it_is_explained():
    text = demo_recipe(family(Path("/models")))
    assert 'base_model: "/models/base"' in text
    assert text.count("#") > 6
    assert max(map(len, text.splitlines())) <= 100
