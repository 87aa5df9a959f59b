"""Starter recipes of several documents, one merged with the result of another."""

from __future__ import annotations

from mdm_kit.authoring.placeholders import BASE
from mdm_kit.authoring.writing import Draft, Entry

IN_STAGES = {
    "stages": Draft(
        "Two merges in one: skills are added to a base, and the result is blended with a chat "
        "model.\n"
        "Each document but the last has a name, by which later ones use its result as a model.",
        "linear",
        (
            Entry("skills", ("weight: 0.7",), "what the document above makes; it is kept nowhere"),
            Entry(f"{BASE}-chat", ("weight: 0.3",)),
        ),
        before=(
            Draft(
                "",
                "task_arithmetic",
                (
                    Entry(f"{BASE}-math", ("weight: 0.5",)),
                    Entry(f"{BASE}-code", ("weight: 0.4",)),
                ),
                base=BASE,
                dtype_note="what is blended is rounded to it, as in a folder",
                name="skills",
            ),
        ),
    ),
}
