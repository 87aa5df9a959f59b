"""`mdm-kit methods NAME` and `mdm-kit schema`: what they print."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import mdm_kit
from mdm_kit.authoring.examples import example
from mdm_kit.cli.main import main
from mdm_kit.methods.contract import Method
from mdm_kit.methods.registry import methods


@pytest.mark.parametrize("method", methods().values(), ids=methods())
def test_a_method_is_explained(method: Method, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", method.name]) == 0
    said = capsys.readouterr().out
    assert method.doc.strip() in said
    assert said.endswith(example(method))
    assert all(s.help in said or s.inert in said for s in method.params.specs())
    assert ("has this method" in said) is method.dialect
    assert main(["methods", method.name, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["example"] == example(method)
    assert document["undo"] == list(document["undo_in_words"]) == list(method.undo)
    assert document["mergekit"] is method.dialect
    assert document["where_not_to_use"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mdm_oc", ["paper", "https://arxiv.org/abs/2507.20997", "a base and 1 or more models",
                    "order of models  counts", "tensor, layer, global", "the model merged last"]),
        ("nuslerp", ["2 models, with or without a base", "No model can be taken out"]),
        ("passthrough", ["takes            1 model\n", "nothing to take out"]),
        ("karcher", ["a base is one more", "(0 to 10000)"]),
        ("task_arithmetic", ["changes nothing here: nothing is dropped here"]),
    ],
)  # fmt: skip
def test_facts_of_a_method(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", name]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in words), said


def test_schema_is_json_whatever_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["schema"], ["schema", "--json"]):
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out) == mdm_kit.recipe_schema()


@pytest.mark.parametrize("words", [["schema"], ["init", "--help"], ["init", "skills"]])
def test_imports_no_torch(words: list[str]) -> None:
    probe = (
        "import sys\nfrom mdm_kit.cli.main import main\n"
        f"code = main({words!r})\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\nsys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
