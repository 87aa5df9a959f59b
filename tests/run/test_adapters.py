"""Models with adapters are merged, remembered, kept and taken out like any others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from adapters import factors, write_adapter
from families import read_model, write_model
from llamas import Sizes, config, llama

import mdm_kit
from mdm_kit.errors import IntegrityError
from mdm_kit.ledger.manifest import Manifest

SIZES = Sizes(layers=2, hidden=16, inner=40, vocabulary=32)
LAYER = "model.layers.0."
MODULES = {
    f"model.layers.{i}.{name}": shape
    for i in range(2)
    for name, shape in {
        "self_attn.q_proj": (16, 16),
        "mlp.up_proj": (40, 16),
        "mlp.down_proj": (16, 40),
    }.items()
}
RECIPE = """
merge_method: {method}
base_model: {root}/base
models:
  - {{model: {root}/base+{root}/math, name: math, parameters: {{weight: 0.5}}}}
  - {{model: {root}/base+{root}/code, name: code, parameters: {{weight: 0.75}}}}
  - {{model: {root}/whole, name: whole, parameters: {{weight: 0.25}}}}
dtype: bfloat16
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapted")
    base = llama(SIZES, torch.bfloat16)
    write_model(root / "base", base, config=config(SIZES, torch.bfloat16))
    whole = {n: (t.float() * 1.01).to(t.dtype) for n, t in base.items()}
    write_model(root / "whole", whole, config=config(SIZES, torch.bfloat16))
    for seed, name in enumerate(("math", "code")):
        own = factors(MODULES, rank=2, seed=seed)
        if name == "code":
            own["lm_head.weight"] = base["lm_head.weight"].float() + 0.1
        write_adapter(root / name, own, base_model_name_or_path="org/base")
    return root


def change(root: Path, adapter: str, name: str) -> torch.Tensor:
    """A change as float64, from the adapter's file alone; α / r is 2."""
    from safetensors.torch import load_file

    held = load_file(root / adapter / "adapter_model.safetensors")
    module = "base_model.model." + name.removesuffix(".weight")
    base = read_model(root / "base")[name].double()
    if f"{module}.weight" in held:
        return held[f"{module}.weight"].double() - base
    if f"{module}.lora_A.weight" not in held:
        return torch.zeros_like(base)
    return 2 * held[f"{module}.lora_B.weight"].double() @ held[f"{module}.lora_A.weight"].double()


def test_adds_what_the_adapters_change(root: Path, tmp_path: Path) -> None:
    text = RECIPE.format(root=root, method="task_arithmetic") + "out_dtype: float64\n"
    mdm_kit.merge(text, tmp_path / "out")
    base, whole = read_model(root / "base"), read_model(root / "whole")
    for name, found in read_model(tmp_path / "out").items():
        start = base[name].double()
        delta = 0.5 * change(root, "math", name) + 0.75 * change(root, "code", name)
        delta += 0.25 * (whole[name].double() - start)
        assert float((found - start - delta).norm()) <= 1e-6 * float(start.norm())


@pytest.mark.parametrize("method", ["mdm_oc", "ties", "linear", "covmerge"])
def test_takes_an_adapter_out_to_the_byte(root: Path, tmp_path: Path, method: str) -> None:
    text = RECIPE.format(root=root, method=method)
    mdm_kit.merge(text, tmp_path / "all")
    mdm_kit.unmerge(tmp_path / "all", tmp_path / "less", ["math"])
    lines = [line for line in text.splitlines(keepends=True) if "name: math" not in line]
    mdm_kit.merge("".join(lines), tmp_path / "never")
    assert read_bytes(tmp_path / "less") == read_bytes(tmp_path / "never")
    assert mdm_kit.verify(tmp_path / "less", deep=True).faults == ()


def read_bytes(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_joins_a_finished_merge(root: Path, tmp_path: Path) -> None:
    text = RECIPE.format(root=root, method="mdm_oc")
    lines = [line for line in text.splitlines(keepends=True) if "name: code" not in line]
    mdm_kit.merge("".join(lines), tmp_path / "two")
    new = mdm_kit.Addition(f"{root}/base+{root}/code", name="code", weight=0.75)
    mdm_kit.add(tmp_path / "two", tmp_path / "added", [new])
    whole = [line for line in text.splitlines(keepends=True) if "name: whole" in line]
    ordered = text.replace(whole[0], "").replace("dtype:", whole[0] + "dtype:")
    order = ordered.splitlines(keepends=True)
    code = next(line for line in order if "name: code" in line)
    order.remove(code)
    order.insert(order.index(whole[0]) + 1, code)
    mdm_kit.merge("".join(order), tmp_path / "once")
    assert read_bytes(tmp_path / "added") == read_bytes(tmp_path / "once")


def test_says_where_model_and_adapter_are(root: Path, tmp_path: Path) -> None:
    mdm_kit.merge(RECIPE.format(root=root, method="mdm_oc"), tmp_path / "out")
    manifest = Manifest.from_bytes((tmp_path / "out" / "mdm_manifest.json").read_bytes())
    math = next(s for s in manifest.sources if s.name == "math")
    base = next(s for s in manifest.sources if s.role == "base")
    model, adapter = math.reference.split("+")
    assert model == base.reference
    assert adapter.startswith("local:math@sha256:")
    assert math.adapter is not None
    assert [f.name for f in math.adapter.files] == ["adapter_model.safetensors"]
    assert [f.name for f in math.files] == ["model.safetensors"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "local:base + local:math" in card.replace("\\", "")
    assert str(root) not in card + manifest.to_bytes().decode()


def test_the_plan_counts_an_adapter_as_what_it_is(root: Path) -> None:
    text = RECIPE.format(root=root, method="mdm_oc") + "ledger: {keep: deltas}\n"
    with mdm_kit.plan(text) as plan:
        math = next(s for s in plan.sources if s.name == "math")
        assert math.nbytes == (root / "math/adapter_model.safetensors").stat().st_size
        files = [root / n / "adapter_model.safetensors" for n in ("math", "code")]
        files += [root / n / "model.safetensors" for n in ("base", "whole")]
        assert plan.costs.disk_nbytes < sum(f.stat().st_size for f in files) + 200_000
        assert "F32 in math" not in plan.report()


def test_keeps_the_adapter_and_not_the_model_with_it(root: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shutil.copytree(root, here)
    text = RECIPE.format(root=here, method="mdm_oc") + "ledger: {keep: deltas+base}\n"
    mdm_kit.merge(text, tmp_path / "out")
    kept = tmp_path / "out" / "deltas" / "001.safetensors"
    adapter = (here / "math/adapter_model.safetensors").stat().st_size
    assert kept.stat().st_size < adapter + 5000  # names and digests of 12 factors
    shutil.rmtree(here)
    mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", ["whole"])
    mdm_kit.extract(tmp_path / "out", "math", tmp_path / "math")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "math" / name).read_bytes() == (root / "math" / name).read_bytes()
    less = [x for x in RECIPE.splitlines(keepends=True) if "name: whole" not in x]
    mdm_kit.merge("".join(less).format(root=root, method="mdm_oc"), tmp_path / "never")
    assert read_bytes(tmp_path / "less") == read_bytes(tmp_path / "never")


def test_another_adapter_is_not_taken_for_it(root: Path, tmp_path: Path) -> None:
    mdm_kit.merge(RECIPE.format(root=root, method="linear"), tmp_path / "out")
    for given in (f"{root}/base+{root}/code", f"{root}/base", f"{root}/whole+{root}/math"):
        with pytest.raises(IntegrityError, match="not the model that was merged"):
            mdm_kit.unmerge(tmp_path / "out", tmp_path / "x", ["whole"], sources={"math": given})
    given = {"math": f"{root}/base+{root}/math"}
    mdm_kit.unmerge(tmp_path / "out", tmp_path / "less", ["whole"], sources=given)


def test_small_tiles_and_threads_change_no_byte(root: Path, tmp_path: Path) -> None:
    text = RECIPE.format(root=root, method="dare_ties")
    mdm_kit.merge(text, tmp_path / "a", threads=1)
    mdm_kit.merge(text, tmp_path / "b", threads=2, memory_nbytes=1)
    assert read_bytes(tmp_path / "a") == read_bytes(tmp_path / "b")


def test_without_a_base_the_result_has_the_dtype_of_what_is_stored(
    root: Path, tmp_path: Path
) -> None:
    text = f"merge_method: linear\nmodels: [{{model: {root}/base+{root}/math}}]\n"
    text += "parameters: {weight: 1.0}\n"
    mdm_kit.merge(text, tmp_path / "out")
    assert {t.dtype for t in read_model(tmp_path / "out").values()} == {torch.bfloat16}
