"""What stands in a merged folder, and what must not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from families import ODD, fine_tuned, tensors, write_family, write_model

import mdm_kit
from mdm_kit.bundle.verify import verify_files
from mdm_kit.sources import FolderSite

SIDE = {
    "tokenizer.json": b'{"version": "1.0",\r\n "odd":  "spacing"}',
    "tokenizer_config.json": b"{ }",
    "chat_template.jinja": b"{{ messages }}\r\n\x00odd",
    "generation_config.json": b'{"eos_token_id": 2}',
    "modeling_custom.py": b"import os",
    "notes.txt": b"mine",
    "pytorch_model.bin": b"\x80\x04",
}


def recipe(root: Path, extra: str = "") -> str:
    return (
        f"merge_method: task_arithmetic\nbase_model: {root}/base # the {root}/base folder\n"
        "models:\n"
        f"  - {{model: {root}/m1, parameters: {{weight: 0.5}}}}\n{extra}\n"
    )


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    base = tensors(ODD, 0)
    config = {"model_type": "llama", "torch_dtype": "bfloat16", "_name_or_path": "/home/ann/base"}
    write_model(tmp_path / "base", base, config=config, side_files=SIDE)
    write_model(tmp_path / "m1", fine_tuned(base, 1), config=config)
    mdm_kit.merge(recipe(tmp_path), tmp_path / "out")
    return tmp_path / "out"


def test_side_files_are_copied_byte_for_byte_by_an_allow_list(merged: Path) -> None:
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        assert (merged / name).read_bytes() == SIDE[name]
    assert sorted(p.name for p in merged.iterdir()) == [
        ".mdm_local.json",
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "mdm_manifest.json",
        "mergekit_config.yml",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_no_path_of_this_machine_is_published(merged: Path, tmp_path: Path) -> None:
    for path in merged.iterdir():
        if path.name != ".mdm_local.json":
            data = path.read_bytes()
            assert str(tmp_path).encode() not in data, path.name
            assert b"/home/ann" not in data, path.name


def test_the_local_map_leads_back_to_the_folders(merged: Path, tmp_path: Path) -> None:
    local = json.loads((merged / ".mdm_local.json").read_text())
    manifest = mdm_kit.Manifest.from_bytes((merged / "mdm_manifest.json").read_bytes())
    found = {s.name: local[s.reference.split("@", 1)[1]] for s in manifest.sources}
    assert found == {"base": f"{tmp_path}/base", "m1": f"{tmp_path}/m1"}


def test_the_published_recipe_names_digests_and_keeps_comments(merged: Path) -> None:
    text = (merged / "mergekit_config.yml").read_text()
    read = yaml.safe_load(text)
    assert read["base_model"].startswith("local:base@sha256:")
    assert read["models"][0]["model"].startswith("local:m1@sha256:")
    assert "# the local:base@sha256:" in text


def test_a_recipe_beyond_the_dialect_has_its_own_name(tmp_path: Path) -> None:
    write_family(tmp_path, n=1)
    mdm_kit.merge(recipe(tmp_path, "seed: 3"), tmp_path / "out")
    assert (tmp_path / "out" / "mdm_recipe.yml").exists()
    assert not (tmp_path / "out" / "mergekit_config.yml").exists()


def test_the_manifest_tells_what_was_done(merged: Path) -> None:
    manifest = mdm_kit.Manifest.from_bytes((merged / "mdm_manifest.json").read_bytes())
    assert manifest.method == "task_arithmetic"
    assert [(s.name, s.role) for s in manifest.sources] == [("base", "base"), ("m1", "model")]
    assert manifest.sources[1].parameters == {"weight": 0.5}
    assert manifest.tensors["model.position_ids"].rule == "same"
    assert manifest.tensors["model.scale"].rule == "task_arithmetic"
    assert manifest.sources[0].files[0].sha256 is None
    assert manifest.history[0].operation == "merge"


def test_hash_sources_records_what_was_really_read(tmp_path: Path) -> None:
    import hashlib

    write_family(tmp_path, n=1)
    mdm_kit.merge(recipe(tmp_path), tmp_path / "out", hash_sources=True)
    manifest = mdm_kit.Manifest.from_bytes((tmp_path / "out" / "mdm_manifest.json").read_bytes())
    for source in manifest.sources:
        (file,) = source.files
        data = (tmp_path / source.name / file.name).read_bytes()
        assert file.sha256 == "sha256:" + hashlib.sha256(data).hexdigest()
        assert file.status == "verified"


def untied(tmp_path: Path, head_of_m1: float) -> Path:
    base = {"model.embed_tokens.weight": torch.randn(6, 4), "model.norm.weight": torch.ones(4)}
    base["lm_head.weight"] = base["model.embed_tokens.weight"].clone()
    tuned = fine_tuned({k: v for k, v in base.items() if k != "lm_head.weight"}, 1)
    tuned["lm_head.weight"] = tuned["model.embed_tokens.weight"] + head_of_m1
    config = {"model_type": "llama", "tie_word_embeddings": True}
    write_model(tmp_path / "base", base, config=config)
    write_model(tmp_path / "m1", tuned, config=config)
    mdm_kit.merge(recipe(tmp_path), tmp_path / "out")
    return tmp_path / "out"


def test_tied_tensors_that_stay_equal_stay_tied(tmp_path: Path) -> None:
    config = json.loads((untied(tmp_path, 0.0) / "config.json").read_text())
    assert config["tie_word_embeddings"] is True


def test_a_head_that_differs_is_not_dropped_by_a_tied_config(tmp_path: Path) -> None:
    config = json.loads((untied(tmp_path, 0.5) / "config.json").read_text())
    assert config["tie_word_embeddings"] is False


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def link_out(folder: Path) -> None:
    (folder / "config.json").rename(folder.parent / "config.json")
    (folder / "config.json").symlink_to(folder.parent / "config.json")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: flip(f / "model.safetensors", -1), "was changed"),
        (lambda f: flip(f / "model.safetensors", 9), "header"),
        (lambda f: flip(f / "tokenizer.json", 0), "tokenizer.json: expected sha256:"),
        (lambda f: (f / "config.json").unlink(), "config.json: is missing"),
        (lambda f: (f / "config.json").write_bytes(b"{}"), "config.json: expected"),
        (lambda f: (f / "extra.safetensors").write_bytes(b""), "extra.safetensors"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: is missing"),
        (link_out, "outside of the folder"),
    ],
)
def test_verify_names_every_harm(merged: Path, harm: object, said: str) -> None:
    assert verify_files(FolderSite(merged)).faults == ()
    harm(merged)  # type: ignore[operator]
    found = verify_files(FolderSite(merged))
    assert not found.sound
    assert said in "\n".join(found.faults)


def test_the_card_may_be_edited(merged: Path) -> None:
    (merged / "README.md").write_text("my own words")
    assert verify_files(FolderSite(merged)).sound


@pytest.mark.parametrize("at", range(5, 2000, 399))
def test_an_edited_manifest_is_refused(merged: Path, at: int) -> None:
    flip(merged / "mdm_manifest.json", at)
    with pytest.raises(mdm_kit.errors.IntegrityError, match=r"mdm_manifest\.json"):
        mdm_kit.verify(merged)


def remade(folder: Path, change: dict[str, object]) -> None:
    """Edit the manifest and give it the digest of its new content."""
    from mdm_kit.ledger.canonical import digest

    path = folder / "mdm_manifest.json"
    content = json.loads(path.read_text())
    del content["digest"]
    content |= change
    path.write_text(json.dumps(content | {"digest": digest(content)}))


ENTRY = {"nbytes": 1, "sha256": "sha256:" + "0" * 64}


@pytest.mark.parametrize(
    "change",
    [
        {"history": []},
        {"files": {"a\x00b": ENTRY}},
        {"files": {"x" * 5000: ENTRY}},
        {"files": {"../config.json": ENTRY}},
        {"files": {"/etc/passwd": ENTRY}},
        {"shards": {"config.json": ENTRY}},
        {"tensors": {"w": 1}},
        {"unheard": "of"},
    ],
)
def test_a_hostile_manifest_with_a_right_digest_is_refused(
    merged: Path, change: dict[str, object]
) -> None:
    remade(merged, change)
    with pytest.raises(mdm_kit.errors.IntegrityError):
        mdm_kit.verify(merged)


@pytest.mark.parametrize(
    "raw", ['{"seed": NaN}', '{"tool": "\\ud800"}', "[" * 100_000, "[]", "\xff"]
)
def test_a_manifest_that_is_no_json_is_refused(merged: Path, raw: str) -> None:
    (merged / "mdm_manifest.json").write_bytes(raw.encode("latin-1"))
    with pytest.raises(mdm_kit.errors.IntegrityError):
        mdm_kit.verify(merged)


def test_a_stray_single_file_beside_shards_is_named(tmp_path: Path) -> None:
    write_family(tmp_path, n=1)
    mdm_kit.merge(recipe(tmp_path), tmp_path / "out", shard_nbytes=3000)
    (tmp_path / "out" / "model.safetensors").write_bytes(
        (tmp_path / "base" / "model.safetensors").read_bytes()
    )
    assert any("model.safetensors: is a file" in f for f in mdm_kit.verify(tmp_path / "out").faults)


@pytest.mark.parametrize("name", ["tokenizer.model", "modeling_x.py", "pytorch_model.bin"])
def test_an_added_file_that_loaders_read_is_named(merged: Path, name: str) -> None:
    (merged / name).write_bytes(b"x")
    assert any(name in fault for fault in verify_files(FolderSite(merged)).faults)
