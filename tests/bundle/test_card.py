"""The model card: true front matter, and a body that says what was done and how to undo it."""

from __future__ import annotations

from pathlib import Path

import pytest
from card_cases import SHA, body, card, front_matter, local, manifest, source
from families import tensors
from hub_like import COMMIT, SMALL, hub_like

import mdm_kit
from mdm_kit.ledger.entries import Certificate, Event
from mdm_kit.words import License


def test_front_matter_names_every_parent_on_the_hub_and_nothing_else() -> None:
    made = manifest(sources=[source("base", "base"), local("m1"), source("m2"), source("m2")])
    text = card(made, license=License("apache-2.0"), task="text-generation")
    assert front_matter(text) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "mdm-kit", "mergekit", "linear"],
        "base_model": ["org/base", "org/m2"],
        "base_model_relation": "merge",
        "license": "apache-2.0",
    }
    alone = front_matter(card(manifest(sources=[local("base", "base"), local("m1")])))
    assert alone == {
        "library_name": "transformers",
        "tags": ["merge", "mdm-kit", "mergekit", "linear"],
    }
    one = front_matter(card(manifest(sources=[source("m1")]), dialect=False))
    assert (one["base_model"], one["base_model_relation"]) == (["org/m1"], "merge")
    assert one["tags"] == ["merge", "mdm-kit", "linear"]
    gone = manifest(sources=[source("base", "base"), source("m1", status="removed")])
    assert front_matter(card(gone))["base_model"] == ["org/base"]


def test_another_licence_has_its_name_and_link() -> None:
    matter = front_matter(card(license=License("other", "qwen", "https://h/l")))
    named = {k: v for k, v in matter.items() if k.startswith("license")}
    assert named == {"license": "other", "license_name": "qwen", "license_link": "https://h/l"}
    assert "other (qwen), which all of the models state." in card(license=License("other", "qwen"))
    decided = card(license=License("mit"), license_decided=True, stated={"m1": "llama3.1"})
    assert "mit, as the recipe decides. What the models state" in decided
    assert "## Licence" not in card()


def test_the_table_has_commits_parameters_and_weights() -> None:
    text = card(
        manifest(sources=[source("base", "base", parameters={}), source("m1"), local("m2")]),
        stated={"base": "mit", "m1": "none stated"},
        weights={"m1": (0.5, 0.5), "m2": (-0.25, 0.123456)},
    )
    rows = [line for line in body(text).splitlines() if line.startswith("|")]
    columns = "name | role | model | commit or digest | licence | parameters"
    assert rows[0] == f"| {columns} | weight in the result |"
    assert rows[2] == f"| base | base | org/base | {40 * 'a'} | mit |  |  |"
    assert rows[3] == f"| m1 | model | org/m1 | {40 * 'a'} | none stated | weight: 1.0 | 0.5 |"
    assert rows[4] == f"| m2 | model | local:m2 | {SHA} |  | weight: 1.0 | \\-0.25 to 0.1235 |"
    assert "licence |" not in card()


def test_how_a_model_is_taken_out() -> None:
    text = card(manifest(undo=["rebuild", "exact", "subtract"]))
    commands = text.split("```sh\n")[1].split("\n```")[0].splitlines()
    assert commands == [
        "mdm-kit unmerge . OUT --drop m1",
        "mdm-kit unmerge . OUT --drop m2",
        "mdm-kit unmerge . OUT --drop m2 --mode exact",
        "mdm-kit unmerge . OUT --drop m2 --mode subtract",
    ]
    assert "at most one step of the dtype away" in text
    assert "at the commits above" in text
    here = card(manifest(sources=[source("base", "base"), local("a b"), local("m2")]))
    assert "--drop 'a b'\n" in here
    assert "`--source NAME=FOLDER`: a b, m2." in here
    kept = [source(n, kept=f"deltas/{n}") for n in ("m1", "m2")]
    assert "nothing else is needed" in card(manifest(sources=kept))
    assert "No model can be taken out" in card(manifest(undo=[]))
    assert "There is one model" in card(manifest(sources=[source("base", "base"), source("m1")]))


@pytest.mark.parametrize(
    ("mode", "leak", "words"),
    [
        ("rebuild", 0.0, "Nothing is left."),
        ("subtract", 0.125, "The weights are 0.125 of the merged change away"),
        ("subtract", None, "was not measured"),
    ],
)
def test_what_was_removed_is_said(mode: str, leak: float | None, words: str) -> None:
    certificate = Certificate(SHA, ["m_2"], mode, leak, {"m_2": 0.25}, SHA, "mdm-kit verify .")  # type: ignore[arg-type]
    event = Event("unmerge", "now", SHA, {}, SHA, [], certificate)
    text = card(manifest(history=[Event("merge", "now", SHA, {}), event]))
    assert f"**m\\_2** was taken out by `{mode}`" in text
    assert words in text
    assert f"`{SHA}`" in text
    assert "```\nmdm-kit verify .\n```" in text
    assert ("m\\_2 0.25" in text) == bool(leak)
    assert "## Removed" not in card()


# Through merges.

APACHE = {"license": "apache-2.0", "pipeline_tag": "fill-mask"}


def merged(root: Path, method: str, config: bytes | None = None, **extra: object) -> str:
    files = {} if config is None else {"config.json": config}
    sources = {
        f"o/{n}": hub_like(f"o/{n}", i, files=files, **APACHE)
        for i, n in enumerate(("base", "a", "b"))
    }
    recipe = (
        f"merge_method: {method}\nbase_model: o/base\nmodels:\n"
        "  - {model: o/a, parameters: {weight: 0.25}}\n"
        "  - {model: o/b, parameters: {weight: [0.5, 1.5]}}\nname: two skills\n"
    )
    mdm_kit.merge(recipe, root / method, sources=sources, **extra)  # type: ignore[arg-type]
    return (root / method / "README.md").read_text()


def test_a_merge_of_models_on_the_hub(tmp_path: Path) -> None:
    text = merged(tmp_path, "task_arithmetic", b'{"architectures": ["LlamaForCausalLM"]}')
    assert front_matter(text) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "mdm-kit", "mergekit", "task_arithmetic"],
        "base_model": ["o/base", "o/a", "o/b"],
        "base_model_relation": "merge",
        "license": "apache-2.0",
    }
    assert "# two skills" in text
    row = f"| b | model | o/b | {COMMIT} | apache\\-2.0 | weight: \\[0.5, 1.5\\] | 0.5 to 1.5 |"
    assert row in text
    assert front_matter(merged(tmp_path, "linear"))["pipeline_tag"] == "fill-mask"
    assert mdm_kit.verify(tmp_path / "linear").sound


def test_weights_are_those_of_the_manifest_or_of_the_method(tmp_path: Path) -> None:
    measured = merged(tmp_path, "mdm_oc")
    manifest = mdm_kit.verify(tmp_path / "mdm_oc").manifest
    first = [t.weights[0] for t in manifest.tensors.values() if t.weights]
    assert f"{min(first):.4g} to {max(first):.4g}".replace("-", "\\-") in measured
    assert " 0.25 |" in merged(tmp_path, "task_arithmetic")
    assert "weight in the result" not in merged(tmp_path, "ties")
    assert len(tensors(SMALL, 0)) == len(manifest.tensors)


def test_compat_says_no_weights(tmp_path: Path) -> None:
    assert "weight in the result" not in merged(tmp_path, "task_arithmetic", compat="mergekit")
