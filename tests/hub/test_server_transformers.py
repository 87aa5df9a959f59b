"""A model goes to the loopback Hub and comes back by its id, as transformers does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Client
    from server import Hub

pytestmark = pytest.mark.hub

CODE = """
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
made = AutoModelForCausalLM.from_config(LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2))
made.push_to_hub("org/model", max_shard_size="40kB")
words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").push_to_hub("org/model")
got = AutoModelForCausalLM.from_pretrained("org/model")
same = all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), got.state_dict().values()))
ids = AutoTokenizer.from_pretrained("org/model")("a b c")["input_ids"]
answer = [same, ids, AutoConfig.from_pretrained("org/model", revision="main").hidden_size]
"""


@pytest.mark.parametrize("xet", [False, True])
def test_there_and_back(hub: Hub, client: Client, xet: bool) -> None:
    assert client.stock(CODE, xet=xet, PYTHONWARNINGS="default") == [True, [0, 1, 2], 32]
    repo = hub.repos["org/model"]
    files = repo.commits[repo.refs["main"]].files
    assert sum(path.endswith(".safetensors") for path in files) > 1
    assert any(r.path.startswith("/cas/") for r in hub.log) == xet
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} <= files.keys()
