"""Mixture of experts: dense models become the experts of one sparse model ("upcycling").

Attention, norms and embeddings are the base's; the feed-forward tensors of the experts stand side
by side, each as `weight`·W, and a router chooses among them token by token. Noise is a second
summand. Routers come of prompts, see `mdm_kit.mixture`. Komatsuzaki et al. 2022, "Sparse
Upcycling", arXiv:2212.05055, with trained experts in place of copies of one.

Where not to use: without prompts that tell the experts apart; rows by chance need training.
"""

from __future__ import annotations

from mdm_kit.methods.contract import MethodParams, PerModel, fold_method, per_model


class Params(MethodParams):
    """Parameters of `moe`."""

    weight: PerModel[float] = per_model(
        default=1.0,
        help="multiplies the expert's tensor",
        inert="residual_scale and noise_scale of an expert say it",
    )


@fold_method("moe", params=Params, base="ignored", order_free=True)
def moe(p: Params) -> list[float]:
    """Return the factors of an expert's tensor and of what is added to it."""
    return list(p.weight)
