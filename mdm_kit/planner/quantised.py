"""Is a model quantised?  By its config, and by what its tensors are called and stored as."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mdm_kit.planner.fused import configs_in
from mdm_kit.planner.survey import Surveyed
from mdm_kit.sources import is_repo_id
from mdm_kit.words import DTYPES, Finding, Kind, Level, TensorInfo, shown, some

_CODES = {
    "GPTQ or AWQ": re.compile(r"\.(?:qweight|qzeros)$"),
    "bitsandbytes": re.compile(r"\.(?:absmax|quant_map|SCB|quant_state\.[\w.]+)$"),
    "compressed-tensors": re.compile(r"\.weight_packed$"),
    "AQLM": re.compile(r"\.(?:codes|codebooks)$"),
    "HQQ": re.compile(r"\.W_q$"),
    "MXFP4": re.compile(r"_blocks$"),
}
"""What packed weights are called, by who packs them."""
_SCALES = re.compile(r"(?:\.scales|_scales|\.weight_scale(?:_inv|_2)?|_scale_inv|\.input_scale)$")
"""What stands beside codes that are called `weight`, and beside MXFP4's blocks."""
_NEEDS_SCALES = ("MXFP4",)


def quantised(model: Surveyed) -> Finding | None:
    """Return why a model's tensors cannot be added, and which model to take instead."""
    found = _by_config(model) or _by_names(model) or _by_dtypes(model)
    if found is None:
        return None
    how, codes = found
    own = f"{model.name} is quantised ({how}): its tensors are codes, not weights that can be added"
    message = f"{own}, as {some(codes)}" if codes else own
    return Finding(Level.ERROR, Kind.MISFIT, message, _hint(model), model.place)


def _by_config(model: Surveyed) -> tuple[str, list[str]] | None:
    for where, config in _places(model.config):
        stated = config.get("quantization_config")
        if stated:
            method = stated.get("quant_method") if isinstance(stated, dict) else stated
            return f"{shown(str(method or 'unknown method'), 60)}, by {where}", []
    return None


def _by_names(model: Surveyed) -> tuple[str, list[str]] | None:
    own = [info.name for info in model.checkpoint.tensors.values()]
    has_scales = any(map(_SCALES.search, own))
    for maker, pattern in _CODES.items():
        codes = [name for name in own if pattern.search(name)]
        if codes and (has_scales or maker not in _NEEDS_SCALES):
            return f"{maker}, by its tensors' names", codes
    return None


def _by_dtypes(model: Surveyed) -> tuple[str, list[str]] | None:
    codes = [info for info in model.checkpoint.tensors.values() if _is_code(info)]
    if not codes:
        return None
    dtypes = ", ".join(sorted({info.dtype for info in codes}))
    return f"{dtypes} by its tensors' dtypes", [info.name for info in codes]


def _is_code(info: TensorInfo) -> bool:
    """Whether a weight is stored in eight bits or less."""
    dtype = DTYPES[info.dtype]
    small = dtype.bits <= 8 and not dtype.merges and dtype.name != "BOOL"
    return small and len(info.shape) > 1 and info.name.endswith("weight")


def _places(config: Mapping[str, object] | None) -> list[tuple[str, Mapping[str, object]]]:
    if config is None:
        return []
    inside = [(k, v) for k, v in config.items() if isinstance(v, Mapping)]
    nested = [(f"config.json, {shown(k, 60)}", c) for k, v in inside for c in configs_in(v)]
    return [("config.json", config), *nested]


def _hint(model: Surveyed) -> str:
    """Return the model to name instead, where config or card say it."""
    stated = [c["_name_or_path"] for c in configs_in(model.config) if "_name_or_path" in c]
    known = map(str, (*model.source.stated_bases(), *stated))
    repo = model.source.origin().repo
    others = dict.fromkeys(name for name in known if is_repo_id(name) and name != repo)
    if not others:
        return "name the unquantised model it was made from"
    return f"name the unquantised model it was made from: {some(list(others))}"
