"""What merges of real fine-tunes are worth: accuracy on each fine-tune's own task.

    python tests/bench/quality.py --bed BED
    python tests/bench/quality.py --bed BED --tasks movie,spam ties:weight=1,density=0.2/0.3
    python tests/bench/quality.py --bed BED task_arithmetic:weight=0.2/0.3/0.4 mdm_oc:weight=0.4

A trial is METHOD or METHOD:KEY=VALUE,…, its parameters as a recipe has them; VALUE/VALUE/… tries
each. Every setting is merged with `mdm_kit.merge` into a folder that is removed again. The bed:

    BED/models/FAMILY-base                a sentence encoder transformers loads, and its tokenizer
    BED/models/FAMILY-TASK                a fine-tune of it
    BED/models/FAMILY-heads.safetensors   each task's head under its name, (classes, width)
    BED/data/TASK.json                    {"test": [[text, class], …]}, in no order

A text's class is the head's row that is nearest to the mean of its tokens' last states (cosine).
The first `--validation` rows of a task choose among a trial's settings (`*`) and nothing else:
accuracies are those of the rows after them. The gap is what the fine-tunes have on their own tasks
beyond the base. There is one seed and a few hundred rows a task: means that differ by less than two
standard errors, as printed below the table, are alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

import mdm_kit

TRIALS = (
    "task_arithmetic:weight=0.2/0.3/0.4/0.5/0.7",
    "ties:weight=1,density=0.2,normalize=false,lambda=0.5/0.7/1.0",
    "mdm_oc:weight=0.2/0.3/0.4/0.5/0.7",
    "opcm:lambda=1.0/1.4/1.75/2.1",
    "covmerge:side=input/output",
)
BATCH = 32
READ = {"padding": True, "truncation": True, "max_length": 64, "return_tensors": "pt"}


@dataclass(frozen=True, slots=True)
class Setting:
    """A method with its parameters, and how a table names them."""

    method: str
    parameters: dict[str, Any]

    def __str__(self) -> str:
        return " ".join([self.method, *(f"{k}={v}" for k, v in self.parameters.items())])


@dataclass(frozen=True, slots=True)
class Score:
    """Shares of right answers: of all tasks' validation rows, of each task's test rows."""

    validation: float
    tests: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.tests) / len(self.tests)


def settings(trial: str) -> Iterator[Setting]:
    """Yield every setting of METHOD:KEY=VALUE/VALUE,…, the last key's values fastest."""
    method, _, rest = trial.partition(":")
    pairs = [word.partition("=") for word in rest.split(",") if word]
    choices = [[yaml.safe_load(value) for value in values.split("/")] for _, _, values in pairs]
    for values in itertools.product(*choices):
        yield Setting(method, {key: v for (key, _, _), v in zip(pairs, values, strict=True)})


class Bed:
    """A base, its fine-tunes and their tasks."""

    def __init__(self, root: Path, family: str, tasks: Sequence[str], n_validation: int) -> None:
        self.family = root / "models" / family
        heads = load_file(f"{self.family}-heads.safetensors")
        self.tasks = tasks or sorted(heads)
        self.heads = {task: normalize(heads[task], dim=-1) for task in self.tasks}
        files = {task: root / "data" / f"{task}.json" for task in self.tasks}
        self.rows = {task: json.loads(path.read_text())["test"] for task, path in files.items()}
        self.n_validation = n_validation

    def folder(self, name: str) -> Path:
        return self.family.with_name(f"{self.family.name}-{name}")

    def recipe(self, setting: Setting) -> str:
        """Return the recipe that merges all fine-tunes."""
        recipe = {
            "merge_method": setting.method,
            "base_model": str(self.folder("base")),
            "models": [{"model": str(self.folder(task)), "name": task} for task in self.tasks],
            "parameters": setting.parameters,
            "dtype": "float32",
        }
        return yaml.safe_dump(recipe, sort_keys=False)

    def score(self, folder: Path | None = None) -> Score:
        """Return how a model folder does on all tasks; without one, each fine-tune on its own."""
        right = [self.answers(folder or self.folder(task), task) for task in self.tasks]
        n = self.n_validation
        validation = torch.cat([rows[:n] for rows in right]).mean()
        return Score(float(validation), tuple(float(rows[n:].mean()) for rows in right))

    def merged_score(self, setting: Setting) -> Score:
        """Return how a merge of all fine-tunes does on all tasks."""
        with tempfile.TemporaryDirectory(prefix="mdm-kit-bench-") as room:
            mdm_kit.merge(self.recipe(setting), Path(room) / "merged")
            return self.score(Path(room) / "merged")

    @torch.no_grad()
    def answers(self, folder: Path, task: str) -> Tensor:
        """Return which rows of a task a model gets right, float64 (rows,)."""
        model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(self.folder("base"))
        texts, classes = zip(*self.rows[task], strict=True)
        found = torch.empty(len(texts), dtype=torch.long)
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), BATCH):
            chosen = by_length[start : start + BATCH]
            read = tokenizer([texts[i] for i in chosen], **READ)
            states = model(**read).last_hidden_state  # (rows, tokens, width)
            sums = (states * read["attention_mask"].unsqueeze(-1)).sum(1)  # length does not matter
            found[chosen] = (sums @ self.heads[task].T).argmax(-1)
        return (found == torch.tensor(classes)).double()

    def standard_error(self, score: Score) -> float:
        """Return the standard error of a mean accuracy."""
        counts = [len(self.rows[task]) - self.n_validation for task in self.tasks]
        variances = [p * (1 - p) / n for p, n in zip(score.tests, counts, strict=True)]
        return float(sum(variances) ** 0.5 / len(variances))


class Table:
    """Prints scores as they come; a gap is what lies between `base` and `own`, the first rows."""

    def __init__(self, bed: Bed, base: Score, own: Score, names: list[str]) -> None:
        self.base, self.own = base, own
        self.width = max(map(len, (*names, "each its own fine-tune"))) + 2
        self.widths = [max(5, len(task)) + 2 for task in bed.tasks]
        tasks = "".join(f"{task:>{w}}" for task, w in zip(bed.tasks, self.widths, strict=True))
        print(f"{'':{self.width}}  validation{tasks}    mean  gap closed")
        self.row("base", base)
        self.row("each its own fine-tune", own)

    def row(self, name: str, score: Score) -> None:
        cells = "".join(f"{p:{w}.3f}" for p, w in zip(score.tests, self.widths, strict=True))
        gap = (score.mean - self.base.mean) / (self.own.mean - self.base.mean)
        line = f"{name:{self.width}}{score.validation:12.3f}{cells}{score.mean:8.3f}{gap:12.2f}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("trials", nargs="*", default=TRIALS, metavar="METHOD[:KEY=VALUE,…]")
    parser.add_argument("--bed", type=Path, required=True)
    parser.add_argument("--family", default="minilm")
    parser.add_argument("--tasks", default="", help="some of the heads' names; all if not given")
    parser.add_argument("--validation", type=int, default=80, help="rows of each task")
    parser.add_argument("--threads", type=int, default=1, help="of the evaluation")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.disable_progress_bar()
    bed = Bed(given.bed, given.family, list(filter(None, given.tasks.split(","))), given.validation)
    trials = [list(settings(trial)) for trial in given.trials]
    every = list(itertools.chain(*trials))
    for setting in every:
        mdm_kit.read_recipe(bed.recipe(setting))  # what is wrong is said before the first merge
    own = bed.score()
    table = Table(bed, bed.score(bed.folder("base")), own, list(map(str, every)))
    for tried in trials:
        scores = [bed.merged_score(setting) for setting in tried]
        best = max(score.validation for score in scores)
        for setting, score in zip(tried, scores, strict=True):
            table.row(f"{setting} {'*' * (score.validation == best)}", score)
    print(f"standard error of a mean: {bed.standard_error(own):.3f}")


if __name__ == "__main__":
    main()
