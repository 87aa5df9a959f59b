"""What a commit changes: the merge's files come, those of the merge before go, all others stay."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from mdm_kit.errors import UsageError
from mdm_kit.publish.bundle_files import of_bytes
from mdm_kit.publish.changes import changes, is_of_model, refuse_foreign
from mdm_kit.sources.hub_listing import Listed
from mdm_kit.sources.identity import git_blob

if TYPE_CHECKING:
    from mdm_kit.ledger.manifest import Manifest
    from mdm_kit.publish.bundle_files import BundleFile


def remote(file: BundleFile, *, large: bool = False) -> Listed:
    if large:
        return Listed(file.nbytes, file.sha256, "pointer")
    return Listed(file.nbytes, None, git_blob(file.read()))


def merge_of(*names: str) -> Manifest:
    return cast("Manifest", SimpleNamespace(shards=dict.fromkeys(names), files={}))


def test_a_blob_has_the_id_git_gives_it() -> None:
    assert git_blob(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.parametrize("large", [False, True])
def test_what_is_there_is_not_added_again(large: bool) -> None:
    file = of_bytes("config.json", b"{}")
    assert not changes({"config.json": remote(file, large=large)}, None, [file])
    other = of_bytes("config.json", b"{ }"[:2])
    assert changes({"config.json": remote(other, large=large)}, None, [file]).add == (file,)
    assert changes({}, None, [file]).add == (file,)


def test_only_files_of_the_earlier_merge_go() -> None:
    file = of_bytes("model.safetensors", b"x")
    there = dict.fromkeys(
        ["model-1.safetensors", "mdm_manifest.json", "LICENSE", "a.png"], remote(file)
    )
    wanted = changes(there, merge_of("model-1.safetensors", "gone.safetensors"), [file])
    assert wanted.delete == ("model-1.safetensors", "mdm_manifest.json")
    assert changes(there, None, [file]).delete == ()


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "tf_model.h5",
        "flax_model.msgpack",
        "config.json",
        "tokenizer.json",
        "x/adapter_config.json",
        "modeling_x.py",
        "original/consolidated.00.pth",
    ],
)
def test_models_are_told_by_their_files(name: str) -> None:
    assert is_of_model(name)
    with pytest.raises(UsageError, match="did not write"):
        refuse_foreign("you/x", [name], None)
    refuse_foreign("you/x", [name], merge_of(name))


@pytest.mark.parametrize(
    "name", [".gitattributes", "README.md", "LICENSE", "a.png", "x.gguf", "eval/results.json"]
)
def test_others_may_stay(name: str) -> None:
    refuse_foreign("you/x", [name], None)


def test_a_long_list_is_cut_and_names_are_made_safe() -> None:
    names = [f"{i}\x1b.safetensors" for i in range(9)]
    with pytest.raises(UsageError, match="and 4 more") as caught:
        refuse_foreign("you/x", names, None)
    assert "\x1b" not in str(caught.value)
