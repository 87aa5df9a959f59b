"""Starter recipes by what somebody wants to do; `recipes/` holds each as a file."""

from __future__ import annotations

from mdm_kit.authoring.goals_growing import GROWING
from mdm_kit.authoring.goals_in_stages import IN_STAGES
from mdm_kit.authoring.goals_of_parts import OF_PARTS
from mdm_kit.authoring.goals_spectral import SPECTRAL
from mdm_kit.authoring.placeholders import BASE, CHAT, CODE, MATH
from mdm_kit.authoring.writing import Draft, Entry

_DENSITY = "share of the change that is kept"

_ADDED = {
    "average": Draft(
        'The weighted average of fine-tunes of one base ("model soup").\n'
        "Run: mdm-kit plan RECIPE      (reads headers only)\n"
        "     mdm-kit merge RECIPE OUT",
        "linear",
        (
            Entry(
                "your-org/chat-model",
                ("weight: 0.6",),
                "a Hub id or a folder; @branch, @tag or @commit may follow",
            ),
            Entry("your-org/code-model", ("weight: 0.4",)),
        ),
        parameters=(
            "normalize: true # divide by the sum of the weights, which need not be one then",
        ),
        dtype_note="of the result; the arithmetic is float32 or better whatever stands here",
    ),
    "skills": Draft(
        "Several skills on one base: what each fine-tune changed is added to it.\n"
        "Start with weights between 0.3 and 0.5; at 1.0 three changes add up to too much.",
        "task_arithmetic",
        (
            Entry(
                MATH,
                ("weight: 0.4",),
                name="math # what the model is called in reports and in the manifest",
            ),
            Entry(CODE, ("weight: 0.4",), name="code"),
            Entry(CHAT, ("weight: 0.3",), name="chat"),
        ),
        base=BASE,
        parameters=("lambda: 1.0 # multiplies the whole merged change",),
    ),
    "by-layer": Draft(
        "Other weights for other layers and tensors.\n"
        "mdm-kit plan RECIPE --explain shows which tensor gets which.",
        "task_arithmetic",
        (
            Entry(
                f"{BASE}-story",
                (
                    "weight:",
                    "  # The first filter that stands in a tensor's name wins.",
                    "  - filter: mlp",
                    "    value: [0.0, 0.3, 0.8] # along the layers: 0.0 at the first, 0.8 at "
                    "the last",
                    "  - filter: embed_tokens",
                    "    value: 0.0",
                    "  - value: 0.5 # every other tensor",
                ),
            ),
            Entry(f"{BASE}-poetry", ("weight: 0.3",)),
        ),
        base=BASE,
    ),
    "removable": Draft(
        "Skills that can be taken out again, each of them (MDM-OC).\n"
        "What the fine-tunes changed is made orthogonal, in this order, and added to the base.\n"
        "mdm-kit unmerge OUT WITHOUT --drop math leaves the bytes of a merge without math.",
        "mdm_oc",
        (
            Entry(MATH, ("weight: 0.5",), "the first keeps its whole change", "math"),
            Entry(
                CODE,
                ("weight: 0.5",),
                "the others give what the earlier ones do not have already",
                "code",
            ),
            Entry(CHAT, ("weight: 0.4",), name="chat"),
        ),
        base=BASE,
        parameters=(
            "scope: tensor # where inner products are taken: tensor, layer or global",
            "orthogonalize: gram_schmidt # or lowdin, which does not depend on the order, or none",
        ),
        more=("ledger: {keep: deltas} # the models too, losslessly; references: only digests",),
    ),
    "take-away": Draft(
        "Take a skill away: the base without what a fine-tune learned.\n"
        "A negative weight goes against the change.",
        "task_arithmetic",
        (Entry(f"{BASE}-rude", ("weight: -0.5",)),),
        base=BASE,
    ),
}

_THINNED = {
    "sparse": Draft(
        "Only the largest changes of each model, and only those that agree in sign (TIES).",
        "ties",
        (
            Entry(MATH, ("weight: 0.5", f"density: 0.3 # {_DENSITY}: the largest")),
            Entry(CODE, ("weight: 0.5", "density: 0.3")),
        ),
        base=BASE,
        parameters=("normalize: true # divide by the sum of the weights that count",),
    ),
    "no-outliers": Draft(
        "Neither the largest nor the smallest changes of each model (Model Breadcrumbs).",
        "breadcrumbs",
        (
            Entry(
                MATH,
                (
                    "weight: 0.5",
                    f"density: 0.9 # {_DENSITY}",
                    "gamma: 0.01 # share of the largest changes to drop",
                ),
            ),
            Entry(CODE, ("weight: 0.5", "density: 0.9", "gamma: 0.01")),
        ),
        base=BASE,
    ),
    "random-drop": Draft(
        "Changes dropped by chance, the rest stretched, then joined as TIES does (DARE).\n"
        "The same seed gives the same bytes.",
        "dare_ties",
        (
            Entry(MATH, ("weight: 0.5", f"density: 0.5 # {_DENSITY}, on average")),
            Entry(CODE, ("weight: 0.5", "density: 0.5")),
        ),
        base=BASE,
        more=("seed: 0",),
    ),
    "ranked-drop": Draft(
        "Changes dropped by chance, small ones more often than large ones (DELLA).",
        "della",
        (
            Entry(
                MATH,
                (
                    "weight: 0.5",
                    f"density: 0.6 # {_DENSITY}, on average",
                    "epsilon: 0.15 # the smallest are kept with 0.6 - 0.15, the largest with "
                    "0.6 + 0.15",
                ),
            ),
            Entry(CODE, ("weight: 0.5", "density: 0.6", "epsilon: 0.15")),
        ),
        base=BASE,
        more=("seed: 0",),
    ),
}

_ELECTED = {
    "consensus": Draft(
        "What varies most between the models, each weighted by its own energy (SCE).",
        "sce",
        (Entry(MATH), Entry(CODE), Entry(CHAT)),
        base=BASE,
        parameters=("select_topk: 0.5 # share of the varying elements to keep",),
    ),
    "stock": Draft(
        "As far from the base as the angle between the fine-tunes says (Model Stock).\n"
        "For fine-tunes of one task that differ in seed or settings; there are no weights.",
        "model_stock",
        (
            Entry(f"{BASE}-run-1"),
            Entry(f"{BASE}-run-2"),
            Entry(f"{BASE}-run-3"),
        ),
        base=BASE,
        parameters=("filter_wise: false # true: every row of a matrix has its own angle",),
    ),
    "unique": Draft(
        "What one model alone changed is added whole, what several changed is averaged (RAM+).\n"
        "For models that changed different weights, as agents trained by reinforcement do.",
        "ramplus_tl",
        (Entry(f"{BASE}-search"), Entry(f"{BASE}-tools")),
        base=BASE,
        parameters=(
            "epsilon: 0.00001 # smaller changes count as none",
            "r: 0.1 # how much overlap strengthens a model's own changes",
            "alpha: 0.2 # overlap beyond this counts as this",
        ),
    ),
}

_ON_THE_SPHERE = {
    "blend": Draft(
        "A point on the arc between two models (SLERP). The base is one of the two.",
        "slerp",
        (Entry("your-org/second-model"),),
        base="your-org/first-model",
        parameters=(
            "t:",
            "  # 0 is the first model, 1 the second; a list goes along the layers.",
            "  - filter: self_attn",
            "    value: [0.0, 0.5, 0.3, 0.7, 1.0]",
            "  - filter: mlp",
            "    value: [1.0, 0.5, 0.7, 0.3, 0.0]",
            "  - value: 0.5 # every other tensor",
        ),
    ),
    "sphere": Draft(
        "A weighted mean of several models on the sphere (Multi-SLERP).\n"
        "With a base_model the mean is one of what each model changed.",
        "multislerp",
        (
            Entry("your-org/first-model", ("weight: 0.5",)),
            Entry("your-org/second-model", ("weight: 0.3",)),
            Entry("your-org/third-model", ("weight: 0.2",)),
        ),
    ),
    "center": Draft(
        "The point on the sphere that is nearest to all models at once (Karcher mean).",
        "karcher",
        (
            Entry("your-org/first-model"),
            Entry("your-org/second-model"),
            Entry("your-org/third-model"),
        ),
        parameters=(
            "max_iter: 10 # steps at most",
            "tol: 0.00001 # stop at shorter steps",
        ),
    ),
}

_OF_ONE = {
    "nudge": Draft(
        "Each weight of the base moved towards another model, by a small step at most.",
        "nearswap",
        (Entry("your-org/other-model"),),
        base=BASE,
        parameters=("t: 0.0001 # largest step of a weight",),
    ),
    "highlights": Draft(
        "Only those changes of a fine-tune that stand out in importance (Arcee Fusion).",
        "arcee_fusion",
        (Entry("your-org/base-model-chat"),),
        base=BASE,
    ),
    "scale": Draft(
        "One model with chosen tensors scaled.",
        "passthrough",
        (
            Entry(
                "your-org/model",
                (
                    "scale:",
                    "  - filter: o_proj",
                    "    value: 0.9",
                    "  - filter: down_proj",
                    "    value: 0.9",
                    "  - value: 1.0 # every other tensor as it is",
                ),
            ),
        ),
    ),
    "convert": Draft(
        "One model, its weights in another dtype and in shards of your size.\n"
        "Run: mdm-kit merge RECIPE OUT --shard-size 2GB",
        "passthrough",
        (Entry("your-org/model-in-float32"),),
    ),
}


GOALS = (
    _ADDED
    | GROWING
    | SPECTRAL
    | _THINNED
    | _ELECTED
    | _ON_THE_SPHERE
    | _OF_ONE
    | OF_PARTS
    | IN_STAGES
)
"""A recipe to start from, by goal."""
