"""The config of an adapter, as peft reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mdm_kit.adapters.extracted import Pair
from mdm_kit.adapters.modules import shortest
from mdm_kit.adapters.naming import architecture, task_type

CONFIG_NAME = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Named:
    """A model as the caller named it: a folder or a Hub id, and its revision."""

    path: str
    revision: str | None = None

    def __str__(self) -> str:
        """Return it as a recipe writes it."""
        return self.path + (f"@{self.revision}" if self.revision else "")


def adapter_config(
    base: Named,
    config: Mapping[str, object],
    pairs: Sequence[Pair],
    among: Sequence[str],
    saved: Sequence[str],
    *,
    turned: bool,
    tied: bool,
    biased: bool,
) -> dict[str, object]:
    """Return what adapter_config.json says of factors that hold their scale themselves.

    `config` is the base's config.json, `among` are the names of all its modules and `saved` those
    that go in whole. `turned` says that some weight is stored as (in, out), `tied` that a saved
    embedding is the head as well, `biased` that every pair brings a bias.
    """
    rank = Counter(p.rank for p in pairs).most_common(1)[0][0]
    # Patterns are regular expressions for the end of a module's name; these are for all of it.
    odd = {p.module.replace(".", r"\."): p.rank for p in pairs if p.rank != rank}
    ranks = {f"^{name}": its_rank for name, its_rank in odd.items()}
    return {
        "peft_type": "LORA",
        "task_type": task_type(
            architecture(config), encoder_decoder=bool(config.get("is_encoder_decoder"))
        ),
        "base_model_name_or_path": base.path,
        "revision": base.revision,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "rank_pattern": ranks,
        "alpha_pattern": dict(ranks),
        "target_modules": shortest({p.module for p in pairs}, among),
        "modules_to_save": list(saved) or None,
        "fan_in_fan_out": turned,
        "bias": "none",
        # Earlier versions of peft know neither, and say so where they stand.
        **({"lora_bias": True} if biased else {}),
        **({"ensure_weight_tying": True} if tied else {}),
    }
