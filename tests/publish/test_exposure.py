"""Every text of a merge is looked through before it is published, and no secret is repeated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from mdm_kit.errors import UsageError
from mdm_kit.publish.bundle_files import BundleFile, of_bytes
from mdm_kit.publish.exposure import refuse_exposures

SECRET = "hf_" + "a1B2" * 9


def test_a_text_with_a_secret_is_refused_by_its_place(tmp_path: Path) -> None:
    file = of_bytes("config.json", f'{{\n "x": "{SECRET}"}}'.encode())
    with pytest.raises(UsageError, match=r"config\.json, line 2, column 8") as caught:
        refuse_exposures(tmp_path, [of_bytes("a.txt", b"fine"), file])
    assert SECRET not in str(caught.value)


def test_metadata_of_a_ledger_is_text(tmp_path: Path) -> None:
    data = save({"gram": np.zeros(3)}, {"note": SECRET})
    with pytest.raises(UsageError, match="mdm_ledger"):
        refuse_exposures(tmp_path, [of_bytes("mdm_ledger.safetensors", data)])
    numbers = np.frombuffer(SECRET.encode().ljust(48), np.float64)
    refuse_exposures(tmp_path, [of_bytes("mdm_ledger.safetensors", save({"gram": numbers}))])


def test_shards_and_binary_files_are_no_text(tmp_path: Path) -> None:
    refuse_exposures(tmp_path, [of_bytes("tokenizer.model", b"\0" + SECRET.encode())])
    missing = tmp_path / "model.safetensors"
    refuse_exposures(tmp_path, [BundleFile(missing.name, 9, "0" * 64, missing, is_large=True)])


def test_a_path_in_what_was_copied_from_the_hub_is_somebody_elses(tmp_path: Path) -> None:
    home = Path("~").expanduser()
    text = of_bytes("tokenizer_config.json", f'{{"name_or_path": "{home}/run/7"}}'.encode())
    with pytest.raises(UsageError, match="tokenizer_config"):
        refuse_exposures(tmp_path, [text])
    refuse_exposures(tmp_path, [text], public={"tokenizer_config.json"})
    token = of_bytes("tokenizer_config.json", SECRET.encode())
    with pytest.raises(UsageError, match="tokenizer_config"):
        refuse_exposures(tmp_path, [token], public={"tokenizer_config.json"})


def test_where_the_models_lie_on_this_machine_is_nobodys_business(tmp_path: Path) -> None:
    (tmp_path / ".mdm_local.json").write_text(json.dumps({"sha256:0": "/data/models/mine"}))
    file = of_bytes("README.md", b"made of /data/models/mine")
    with pytest.raises(UsageError, match="path of this machine"):
        refuse_exposures(tmp_path, [file])
    for text in ("[]", "{", '{"a": 1}'):
        (tmp_path / ".mdm_local.json").write_text(text)
        refuse_exposures(tmp_path, [file])
