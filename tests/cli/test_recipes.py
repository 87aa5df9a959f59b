"""Every recipe of the repository is what `mdm-kit init` writes, right in itself, and plans."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import tensors
from tokenizers import Tokenizer, models
from vocabularies import side_files

import mdm_kit
from mdm_kit.api import check_recipe
from mdm_kit.authoring.goals import GOALS
from mdm_kit.methods.registry import methods
from mdm_kit.sources import MemorySource
from mdm_kit.words import Level

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yml"))

WORDS = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<pad>": 2, "word": 3}, "<pad>"))
LLAMA = {
    "model.embed_tokens.weight": ((16, 8), torch.bfloat16),
    **{
        f"model.layers.{i}.{part}.weight": (shape, torch.bfloat16)
        for i in range(3)
        for part, shape in {
            "self_attn.q_proj": (8, 8),
            "self_attn.o_proj": (8, 8),
            "mlp.down_proj": (8, 24),
            "input_layernorm": (8,),
        }.items()
    },
    "model.norm.weight": ((8,), torch.bfloat16),
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_reads_without_a_finding(path: Path) -> None:
    parsed = check_recipe(path)
    assert parsed.ok, parsed.render()
    assert not parsed.findings, parsed.render()
    assert parsed.text.startswith("# ")
    assert max(map(len, parsed.text.splitlines())) <= 100


def test_the_folder_holds_what_init_writes() -> None:
    """Where this fails: mdm-kit init GOAL --force -o recipes/GOAL.yml"""
    written = {f"{goal}.yml": draft.text() for goal, draft in GOALS.items()}
    assert {path.name: path.read_text() for path in RECIPES} == written


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_plans(path: Path) -> None:
    recipe = mdm_kit.read_recipe(path)
    files = {"config.json": b"{}"}
    if recipe.mixture:  # its base reads prompts
        files = side_files(WORDS) | {"config.json": b'{"model_type": "llama"}'}
    sources = {
        str(located.ref): MemorySource.from_tensors(str(located.ref), tensors(LLAMA, seed), files)
        for seed, located in enumerate(recipe.references)
    }
    with mdm_kit.plan(recipe, sources=sources) as plan:
        # Slices may be warned about; that a stage has a finer dtype than its base is noted.
        fine = {Level.WARNING} if recipe.modules else {Level.NOTE} if recipe.stages else set()
        told = [f for f in plan.findings if f.level not in fine]
        assert not told, plan.report()
        if recipe.mixture:
            assert len(plan.writes) == len(LLAMA) + 3 * 2  # two experts for one; routers
            return
        layers = {n.replace(".2.", ".3.") for n in LLAMA if ".2." in n} if recipe.modules else set()
        assert {w.name for w in plan.writes} == LLAMA.keys() | layers
        assert {w.dtype for w in plan.writes} == {"BF16"}


def test_every_kind_of_method_has_a_recipe() -> None:
    used = {draft.method for draft in GOALS.values()}
    assert used <= methods().keys()
    assert used >= {
        "linear", "task_arithmetic", "mdm_oc", "passthrough", "slerp", "multislerp", "karcher",
        "ties", "breadcrumbs", "dare_ties", "della", "sce", "model_stock", "nearswap",
        "arcee_fusion", "ramplus_tl", "opcm", "covmerge",
        "tsv_m", "svc",
    }  # fmt: skip
