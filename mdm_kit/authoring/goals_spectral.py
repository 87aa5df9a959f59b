"""Starter recipes of merges that weigh what models changed direction by direction."""

from __future__ import annotations

from mdm_kit.authoring.placeholders import BASE, CHAT, CODE, MATH
from mdm_kit.authoring.writing import Draft, Entry

SPECTRAL = {
    "directions": Draft(
        "Every model's strongest directions, made orthogonal so that none drowns another (TSV-M).\n"
        "iso_c, iso_cts and knots take the same recipe: mdm-kit methods NAME says what each is "
        "for.\n"
        "Try task_arithmetic first, and compare: on language models it often does as well.",
        "tsv_m",
        (
            Entry(
                MATH,
                ("weight: 1.0",),
                "of three models each keeps a third of its directions",
                "math",
            ),
            Entry(CODE, ("weight: 1.0",), name="code"),
            Entry(CHAT, ("weight: 1.0",), name="chat"),
        ),
        base=BASE,
        parameters=("lambda: 1.0 # multiplies the merged change; try 0.5 to 1.5",),
    ),
    "calibrated": Draft(
        "A sum of skills, weakened where they repeat one another (SVC).\n"
        "The second document takes the first one's result, and then the models it was made of.",
        "svc",
        (
            Entry("skills", (), "the merge to calibrate comes first"),
            Entry(MATH, (), "what it was made of"),
            Entry(CODE),
        ),
        base=BASE,
        parameters=(
            "floor: 0.1 # least a model counts in a direction; at 1 none is made stronger",
            "lambda: 1.0 # multiplies the calibrated change",
        ),
        before=(
            Draft(
                "",
                "task_arithmetic",
                (Entry(MATH, ("weight: 1.0",)), Entry(CODE, ("weight: 1.0",))),
                base=BASE,
                dtype="float32",
                dtype_note="what is calibrated is not rounded to the result's dtype before",
                name="skills",
            ),
        ),
    ),
}
