"""Starter recipes of results that are put together of parts of models."""

from __future__ import annotations

from mdm_kit.authoring.placeholders import BASE, CODE, MATH
from mdm_kit.authoring.writing import Draft, Entry

OF_PARTS = {
    "stacked": Draft(
        'Layers of models put behind one another, some of them twice ("frankenmerge").\n'
        "The second number of a range is not included; what no slice takes is left out.\n"
        "Embeddings come from the first slice, the final norm and the head from the last.",
        "passthrough",
        (
            Entry(f"{BASE}-chat", layers=(0, 2)),
            Entry(f"{BASE}-story", layers=(1, 3)),
        ),
    ),
    "adapters": Draft(
        "LoRA adapters on one base, each removable later, without a merged copy of any.\n"
        "A tensor that only adapters change is merged on their factors.",
        "mdm_oc",
        (
            Entry(f"{BASE}+your-org/math-lora", ("weight: 1.0",), name="math"),
            Entry(f"{BASE}+your-org/code-lora", ("weight: 1.0",), name="code"),
        ),
        base=BASE,
        more=(
            "ledger: {keep: deltas} # keeps the adapters themselves; it costs no more than they",
        ),
    ),
    "experts": Draft(
        "A mixture of experts made of fine-tunes of one base, as mergekit-moe makes it.\n"
        "Each expert is a fine-tune's feed-forward layers; a router made of the prompts' hidden\n"
        "states in the base chooses two of them for each token.",
        "moe",
        (
            Entry(
                MATH,
                note="its feed-forward layers",
                name="math",
                prompts=(
                    'positive_prompts: ["Solve for x:", "Prove that"]',
                    'negative_prompts: ["Write a story"]',
                ),
            ),
            Entry(
                CODE,
                name="code",
                prompts=('positive_prompts: ["def main():", "Fix this bug:"]',),
            ),
        ),
        base=BASE,
        more=(
            "gate_mode: hidden # or hidden_avg, cheap_embed, random, uniform_random",
            "experts_per_token: 2",
        ),
    ),
}
