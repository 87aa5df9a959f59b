"""What recipes are generated from: settings and whole recipes that are valid by construction."""

from __future__ import annotations

import json
from typing import TypeAlias

from hypothesis import strategies as st

Plain: TypeAlias = float | int | bool | str
PlainSetting: TypeAlias = Plain | list[Plain] | list[dict[str, "Plain | list[Plain]"]]

words = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
segments = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,12}", fullmatch=True)
hub_ids = st.tuples(segments, segments).map("/".join)
tensor_names = st.lists(
    st.sampled_from(["model", "layers", "0", "11", "mlp", "attn", "weight"]), max_size=5
).map(".".join)

numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 6)) | st.integers(-1000, 1000)
texts = st.sampled_from(["norm_mean", "tensor", "layer", "a b", "none"])
positions = st.floats(0, 1)


def settings_of(values: st.SearchStrategy[Plain]) -> st.SearchStrategy[PlainSetting]:
    """Return scalars, gradients and filters whose scalars come from `values`."""
    value = values | st.lists(values, min_size=1, max_size=5)
    patterns = st.sampled_from(["mlp", "attn", "layers.1", "*", "", "nowhere"])
    filtered = st.builds(lambda f, v: {"filter": f, "value": v}, patterns, value)
    bare = value.map(lambda v: {"value": v})
    return value | st.lists(filtered | bare, min_size=1, max_size=4)


parameter_blocks = st.dictionaries(words, settings_of(numbers | st.booleans() | texts), max_size=3)

models = st.builds(
    lambda model, parameters: {"model": model, "parameters": parameters}, hub_ids, parameter_blocks
)

recipes = st.fixed_dictionaries(
    {
        "merge_method": words,
        "models": st.lists(models, min_size=1, max_size=4, unique_by=lambda m: m["model"]),
    },
    optional={
        "base_model": hub_ids,
        "parameters": parameter_blocks,
        "dtype": st.sampled_from(["float16", "torch.bfloat16", "float32", "float64"]),
        "seed": st.integers(0, 2**64 - 1),
        "license": st.sampled_from(["apache-2.0", "mit", "llama3.1", "other", "no"]),
    },
)
"""Whole recipes as plain data."""


def flow(data: object) -> str:
    """Return data as one line of flow YAML; JSON without non-ASCII text is YAML."""
    return json.dumps(data)
