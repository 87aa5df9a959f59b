"""What peft makes of factors of experts that lie in tensors of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mdm_kit.adapters.extracted import Pair
from mdm_kit.words import some

_EXPERT = re.compile(r"\.experts\.\d+\.")


def expert_notes(pairs: Sequence[Pair], linear: Iterable[str]) -> list[str]:
    """Return what keeps peft from joining experts' factors, as transformers 5 joins experts.

    `linear` are the names of all linear modules. Seen with peft 0.21 and transformers 5.24.
    """
    taken = [p for p in pairs if _EXPERT.search(p.module)]
    if not taken:
        return []
    every = list(linear)
    notes = []
    if len({p.rank for p in taken}) > 1 or len(taken) < sum(map(bool, map(_EXPERT.search, every))):
        notes.append(
            "warning: not every expert has factors of the same rank, which peft needs to join "
            "them for transformers 5; --rank gives one rank"
        )
    lasts = {p.module.rpartition(".")[2] for p in taken}
    shared = sorted(
        {last for n in every if not _EXPERT.search(n) and (last := n.rpartition(".")[2]) in lasts}
    )
    if shared:
        notes.append(
            f"warning: modules in and outside of experts are called {some(shared)}; peft for "
            "transformers 5 takes one for the other and leaves some factors out: compare the "
            "loaded model with the fine-tune"
        )
    return notes
