"""Dense models become a mixture: every tensor where it belongs, a model that loads and runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from families import read_model
from mixtures import recipe, write_dense
from safetensors.torch import save_file

import mdm_kit
from mdm_kit.errors import FindingsError, MisfitError, RecipeError, UsageError
from mdm_kit.recipe import Addition

SHARED = """
shared_experts:
  - {source_model: ROOT/base, positive_prompts: [the cat]}
architecture: qwen
"""
KINDS = {
    "mixtral": ("llama", "", "block_sparse_moe.experts.{e}.{w}.weight"),
    "qwen": ("qwen2", SHARED, "mlp.experts.{e}.{p}_proj.weight"),
    "qwen of llamas": ("llama", SHARED, "mlp.experts.{e}.{p}_proj.weight"),
    "qwen3": ("qwen3", "experts_per_token: 1", "mlp.experts.{e}.{p}_proj.weight"),
    "deepseek": ("llama", "architecture: deepseek", "mlp.experts.{e}.{p}_proj.weight"),
}
PARTS = {"gate": "w1", "up": "w3", "down": "w2"}


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dense")
    for kind in ("llama", "qwen2", "qwen3"):
        write_dense(root / kind, kind)
    return root


def text(families: Path, kind: str, mode: str = "hidden") -> str:
    family, more, _ = KINDS[kind]
    return recipe(families / family, more.replace("ROOT", str(families / family)), mode)


@pytest.mark.parametrize("kind", KINDS)
def test_experts_are_the_models_feed_forward_layers(
    families: Path, tmp_path: Path, kind: str
) -> None:
    family, _, pattern = KINDS[kind]
    mdm_kit.merge(text(families, kind), tmp_path / "out")
    base, words, sums = (read_model(families / family / n) for n in ("base", "words", "sums"))
    out = read_model(tmp_path / "out")
    for name, tensor in base.items():
        if ".mlp." not in name:
            assert torch.equal(out.pop(name), tensor), name
            continue
        before, part = name.split("mlp.")[0], name.split("mlp.")[1].split("_")[0]
        for e, model in enumerate((words, sums)):
            new = before + pattern.format(e=e, p=part, w=PARTS[part])
            assert torch.equal(out.pop(new), model[name]), new
        if "shared" in KINDS[kind][1]:
            assert torch.equal(out.pop(f"{before}mlp.shared_expert.{part}_proj.weight"), tensor)
    n_gates = 2 if "shared" in KINDS[kind][1] else 1
    assert len(out) == 3 * n_gates
    for name, tensor in out.items():
        rows = 1 if "shared" in name else 2
        assert tensor.shape == (rows, 32), name
        torch.testing.assert_close(tensor.norm(dim=1), torch.ones(rows), rtol=0, atol=1e-5)
    assert mdm_kit.verify(tmp_path / "out", deep=True).sound


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "deepseek"])
def test_a_mixture_loads_and_runs(families: Path, tmp_path: Path, kind: str) -> None:
    from transformers import AutoModelForCausalLM

    mdm_kit.merge(text(families, kind), tmp_path / "out")
    model, told = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"], told
    assert not told["unexpected_keys"], told
    with torch.no_grad():
        logits = model(torch.arange(3, 9)[None]).logits
    assert torch.isfinite(logits).all()


def test_equal_experts_give_what_the_dense_model_gives(families: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    same = text(families, "mixtral").replace("/sums", "/words").replace("/base", "/words")
    mdm_kit.merge(same, tmp_path / "out")
    tokens = torch.arange(3, 9)[None]
    with torch.no_grad():
        made, dense = (
            AutoModelForCausalLM.from_pretrained(f)(tokens).logits
            for f in (tmp_path / "out", families / "llama" / "words")
        )
    torch.testing.assert_close(made, dense, rtol=1e-4, atol=1e-5)


def test_the_config_is_the_mixture_s(families: Path, tmp_path: Path) -> None:
    mdm_kit.merge(text(families, "mixtral"), tmp_path / "out")
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    was = json.loads((families / "llama" / "base" / "config.json").read_text())
    assert made == was | {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": 2,
        "num_experts_per_tok": 2,
        "sliding_window": None,
    }


def test_noise_and_scales_change_an_expert(families: Path, tmp_path: Path) -> None:
    more = "    noise_scale: 0.5\n    residual_scale: 0.25\n"
    mdm_kit.merge(text(families, "mixtral") + more, tmp_path / "out")
    sums, out = read_model(families / "llama" / "sums"), read_model(tmp_path / "out")
    for part, factor in (("up", 1.0), ("down", 0.25)):
        got = out[f"model.layers.1.block_sparse_moe.experts.1.{PARTS[part]}.weight"]
        noise = got / factor - sums[f"model.layers.1.mlp.{part}_proj.weight"]
        assert noise.std() == pytest.approx(0.5, rel=0.1)
    again = mdm_kit.merge(text(families, "mixtral") + more, tmp_path / "again", threads=1)
    assert again.shards == mdm_kit.merge(text(families, "mixtral") + more, tmp_path / "b").shards


def test_an_expert_leaves_as_if_it_had_never_been(families: Path, tmp_path: Path) -> None:
    third = f"  - {{source_model: {families}/llama/base, positive_prompts: [return x]}}\n"
    mdm_kit.merge(text(families, "mixtral") + third, tmp_path / "three")
    two = mdm_kit.merge(text(families, "mixtral"), tmp_path / "two")
    lines = text(families, "mixtral").splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if "/words" in line)
    without = "".join([*lines[:start], *lines[start + 3 :], third])
    never = mdm_kit.merge(without, tmp_path / "never")
    found = mdm_kit.unmerge(tmp_path / "three", tmp_path / "less", ["words"])
    assert found.shards == never.shards != two.shards


WRONG = {
    "no prompts": (
        "    positive_prompts: [one plus two equals three]\n",
        "",
        "no positive_prompts",
    ),
    "too few": ("gate_mode: hidden", "gate_mode: hidden\nexperts_per_token: 3", "3 experts per"),
    "a mode that is none": ("gate_mode: hidden", "gate_mode: hiden", "gate_mode: expected"),
    "an unknown key": ("negative_prompts", "negativ_prompts", "did you mean 'negative_prompts'"),
    "no such mixture": ("gate_mode: hidden", "gate_mode: hidden\narchitecture: llm", "there are"),
    "a shared expert too many": (
        "gate_mode: hidden",
        "gate_mode: hidden\narchitecture: mixtral\nshared_experts: [{source_model: ROOT/base}]",
        "mixtral has 0 shared experts",
    ),
    "another method": ("base_model", "merge_method: linear\nbase_model", "goes with 'experts'"),
    "another vocabulary": (
        "gate_mode: hidden",
        "gate_mode: hidden\ntokenizer_source: union",
        "has its base's vocabulary",
    ),
    "a prompt that is nothing": ("[print x]", "[~]", "expected a text"),
    "no base": ("base_model: ROOT/base\n", "", "needs a base_model"),
    "the same prompts": (
        "    positive_prompts: [one plus two equals three]\n",
        "    positive_prompts: [the cat sat on the mat, a cat is a cat]\n"
        "    negative_prompts: [print x]\n",
        "the same prompts",
    ),
}


@pytest.mark.parametrize(("old", "new", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(families: Path, old: str, new: str, words: str) -> None:
    root = str(families / "llama")
    made = text(families, "mixtral").replace(root, "ROOT")
    assert old in made
    with pytest.raises((RecipeError, FindingsError)) as caught:
        mdm_kit.plan(made.replace(old, new).replace("ROOT", root))
    assert words in str(caught.value)


def test_models_of_other_sizes_are_no_experts(families: Path, tmp_path: Path) -> None:
    write_dense(tmp_path, "llama", intermediate_size=64)
    made = text(families, "mixtral").replace(f"{families}/llama/sums", f"{tmp_path}/sums")
    with pytest.raises(FindingsError, match="experts need the base's number of layers and sizes"):
        mdm_kit.merge(made, tmp_path / "out")


def test_no_model_joins_a_mixture_without_prompts(families: Path, tmp_path: Path) -> None:
    mdm_kit.merge(text(families, "mixtral"), tmp_path / "out")
    more = [Addition(str(families / "llama" / "base"))]
    with pytest.raises(UsageError, match="joins a mixture with its prompts"):
        mdm_kit.add(tmp_path / "out", tmp_path / "more", more)


def test_experts_of_folders_that_are_called_alike_leave_by_name(
    families: Path, tmp_path: Path
) -> None:
    root = families / "llama"
    write_dense(tmp_path / "other", "llama", rms_norm_eps=1e-5)
    model = tmp_path / "other" / "words" / "model.safetensors"
    tensors = read_model(model.parent)
    save_file({n: t + 0.01 for n, t in tensors.items()}, model, metadata={"format": "pt"})
    third = f"  - {{source_model: {tmp_path}/other/words, positive_prompts: [return x]}}\n"
    shared = f"shared_experts: [{{source_model: {root}/base, name: b}}]\n"
    made = text(families, "deepseek") + third + shared
    found = mdm_kit.merge(made, tmp_path / "out")
    names = [s.name for s in found.manifest.sources if s.role == "model"]
    never = mdm_kit.merge(text(families, "deepseek") + shared, tmp_path / "never")
    other = next(n for n in names if n.endswith("words") and n != "llama/words")
    assert mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", [other]).shards == never.shards


def test_the_base_of_a_mixture_may_be_a_stage(families: Path, tmp_path: Path) -> None:
    root = families / "llama"
    stage = f"merge_method: linear\nmodels: [{{model: {root}/base, parameters: {{weight: 1}}}}]\n"
    stage += "dtype: float32\n"
    mixture = text(families, "mixtral", "random")
    mdm_kit.merge(stage, tmp_path / "mid")
    alone = mdm_kit.merge(mixture.replace(f"{root}/base", f"{tmp_path}/mid"), tmp_path / "alone")
    staged = f"name: mid\n{stage}---\n{mixture.replace(f'{root}/base', 'mid')}"
    found = mdm_kit.merge(staged, tmp_path / "staged")
    assert found.shards == alone.shards
    assert mdm_kit.verify(tmp_path / "staged", deep=True).sound


def test_an_expert_leaves_a_mixture_of_stages(families: Path, tmp_path: Path) -> None:
    root = families / "llama"
    stage = "name: mid\nmerge_method: linear\nparameters: {weight: 0.5}\nmodels:\n"
    stage += f"  - {{model: {root}/base}}\n  - {{model: {root}/sums}}\n---\n"
    mixture = text(families, "mixtral", "random").replace(
        "gate_mode", "experts_per_token: 1\ngate_mode"
    )
    third = "  - {source_model: mid}\n"
    mdm_kit.merge(stage + mixture + third, tmp_path / "out")
    lines = [line for line in (stage + mixture + third).splitlines() if "/sums" not in line]
    never = "\n".join(line for line in lines if "one plus" not in line) + "\n"
    want = mdm_kit.merge(never, tmp_path / "never")
    assert mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", ["sums"]).shards == want.shards


@pytest.mark.parametrize("name", ["DeepSeek MoE", "deepseek", "Deep"])
def test_a_shared_expert_without_prompts_makes_what_mergekit_makes(
    families: Path, name: str | None
) -> None:
    shared = f"shared_experts: [{{source_model: {families}/llama/base}}]\n"
    for more in (shared, f"{shared}architecture: {name}\n"):
        with mdm_kit.plan(recipe(families / "llama", more)) as plan:
            keys = {e.path[-1]: e.value for e in plan.config_edits}
        assert keys["model_type"] == "deepseek"
        assert keys["n_shared_experts"] == 1
    with pytest.raises(RecipeError, match="needs positive_prompts for its shared expert"):
        mdm_kit.plan(recipe(families / "qwen2", shared.replace("llama", "qwen2")))


def test_every_layer_of_a_mixture_attends_to_all_tokens(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    write_dense(tmp_path, "qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1)
    mdm_kit.merge(
        recipe(tmp_path, SHARED.replace("ROOT", str(tmp_path)), "random"), tmp_path / "out"
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        assert torch.isfinite(model(torch.arange(3, 13)[None]).logits).all()


def test_a_base_without_a_tokenizer_reads_no_prompts(families: Path, tmp_path: Path) -> None:
    shutil.copytree(families / "llama", tmp_path / "llama")
    for file in (tmp_path / "llama" / "base").glob("*token*"):
        file.unlink()
    with mdm_kit.plan(recipe(tmp_path / "llama")) as plan:
        assert plan.exit_code == 3
        assert "base has no tokenizer, and gates come of prompts" in plan.report()
    with mdm_kit.plan(recipe(tmp_path / "llama", mode="random")) as plan:
        assert plan.exit_code == 0


def test_a_base_whose_config_is_not_its_own_is_told_and_leaves_nothing(
    families: Path, tmp_path: Path
) -> None:
    shutil.copytree(families / "llama", tmp_path / "llama")
    config = tmp_path / "llama" / "base" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 20}))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MisfitError, match="use gate_mode"):
        mdm_kit.merge(recipe(tmp_path / "llama"), tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
