"""Starter recipes of merges that models join one after another."""

from __future__ import annotations

from mdm_kit.authoring.placeholders import BASE, CODE, MATH
from mdm_kit.authoring.writing import Draft, Entry

GROWING = {
    "continual": Draft(
        "Models taken in one after another, as they come, without those before (OPCM).\n"
        "What a model changed is projected away from what is merged already, so order counts.\n"
        "mdm-kit add OUT MORE --model NEXT then reads base, OUT and the model NEXT alone.",
        "opcm",
        (
            Entry(MATH, (), "the first keeps its whole change; there are no weights", "math"),
            Entry(CODE, (), "one is enough to begin with", "code"),
        ),
        base=BASE,
        parameters=(
            "alpha: 0.5 # share of the singular values whose directions are protected whole",
            "lambda: 1.0 # multiplies the merged change; norm_mean is timid, so try 1.5 to 2",
        ),
        more=(
            "ledger: {keep: state} # the sums too, at 4 to 8 bytes a parameter; without them add",
            "                      # reads the sum back from the weights, as they were rounded",
        ),
    ),
    "any-order": Draft(
        "Models taken in one after another in any order, each of them removable (covmerge).\n"
        "mdm-kit add OUT MORE --model NEXT reads base, OUT and the model NEXT alone;\n"
        "mdm-kit unmerge MORE LESS --drop math --mode exact takes math out to the bit.",
        "covmerge",
        (
            Entry(
                MATH,
                ("weight: 1.0",),
                "any order gives the same weights, to the bit",
                "math",
            ),
            Entry(CODE, ("weight: 1.0",), name="code"),
        ),
        base=BASE,
        parameters=(
            "ridge: 1.0 # pull to the plain sum of changes; hardly matters between 0.3 and 4",
            "other: 0.3 # factor on summed norms, biases and embeddings",
            "lambda: 1.0 # multiplies the whole merged change",
        ),
        more=(
            "ledger: {keep: state} # the exact sums, at about 20 bytes a parameter; without them",
            "                      # add and unmerge read every model again",
        ),
    ),
}
