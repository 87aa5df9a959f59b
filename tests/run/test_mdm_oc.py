"""MDM-OC from recipe to bytes, against components that were really built."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from families import ODD, read_model, tensors, write_model
from reference import dense
from reference.orthogonal_merge import mdm_oc
from safetensors.torch import load_file
from torch import Tensor

import mdm_kit

SPEC = {
    "model.embed_tokens.weight": ((50, 8), torch.float32),
    **{f"model.layers.{i}.mlp.w": ((7, 10_000), torch.float32) for i in range(2)},
    **{f"model.layers.{i}.norm.weight": ((9,), torch.float32) for i in range(2)},
    "model.norm.weight": ((3,), torch.float32),
    "model.ids": ((5,), torch.int64),
}
ALPHA = (1.0, 0.7, -0.4)


def related(base: dict[str, Tensor], kind: str) -> list[dict[str, Tensor]]:
    """Three fine-tunes whose deltas have a pairwise cosine, or are copies, or zero."""
    generator = torch.Generator().manual_seed(5)

    def noise(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=generator, dtype=torch.float64)

    cosine = float(kind) if kind[0].isdigit() else 0.3
    models: list[dict[str, Tensor]] = [{}, {}, {}]
    for name, t in base.items():
        if not t.dtype.is_floating_point:
            for m in models:
                m[name] = t.clone()
            continue
        common = noise(t)
        deltas = [cosine**0.5 * common + (1 - cosine) ** 0.5 * noise(t) for _ in models]
        if kind == "copy":
            deltas[2] = deltas[0]
        if kind == "zero":
            deltas[1] = torch.zeros_like(common)
        if kind == "span":
            deltas[2] = 0.5 * deltas[0] - deltas[1]
        for m, d in zip(models, deltas, strict=True):
            m[name] = (t.double() + 0.01 * d).to(t.dtype)
    return models


def family(
    root: Path, kind: str, spec: object = SPEC
) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    base = tensors(spec, 0)  # type: ignore[arg-type]
    models = related(base, kind)
    write_model(root / "base", base)
    for i, m in enumerate(models, start=1):
        write_model(root / f"m{i}", m)
    return base, models


def recipe(
    root: Path, parameters: str = "", extra: str = "", alpha: tuple[object, ...] = ALPHA
) -> str:
    models = "".join(
        f"  - {{model: {root}/m{i}, parameters: {{weight: {a}}}}}\n"
        for i, a in enumerate(alpha, start=1)
    )
    return (
        f"merge_method: mdm_oc\nbase_model: {root}/base\nmodels:\n{models}"
        f"parameters: {{{parameters}}}\n{extra}\n"
    )


def constant(base: dict[str, Tensor]) -> dict[str, tuple[float, ...]]:
    return dict.fromkeys(base, ALPHA)


@pytest.mark.parametrize(
    "kind", ["0.0", "0.02", "0.3", "0.9", "0.999999999", "copy", "zero", "span"]
)
@pytest.mark.parametrize("scope", ["tensor", "layer", "global"])
def test_equals_the_built_components(tmp_path: Path, scope: str, kind: str) -> None:
    base, models = family(tmp_path, kind)
    mdm_kit.merge(recipe(tmp_path, f"scope: {scope}", "out_dtype: float64"), tmp_path / "out")
    got = read_model(tmp_path / "out")
    # float64 deltas are exact here: the same rounding of d = m - b on both sides is not
    want = mdm_oc(base, models, constant(base), scope=scope)
    for name, t in base.items():
        if not t.dtype.is_floating_point:
            assert torch.equal(got[name], t)
            continue
        assert bool(got[name].isfinite().all())
        change = want[name] - t.double()
        allowed = 1e-5 * change.norm() + 1e-12
        assert (got[name] - want[name]).norm() <= allowed, (name, kind)


@pytest.mark.parametrize("how", ["lowdin", "none"])
@pytest.mark.parametrize("scope", ["tensor", "layer", "global"])
def test_other_orthogonalisations(tmp_path: Path, scope: str, how: str) -> None:
    base, models = family(tmp_path, "0.3")
    text = recipe(
        tmp_path, f"scope: {scope}, orthogonalize: {how}, lambda: 0.5", "out_dtype: float64"
    )
    mdm_kit.merge(text, tmp_path / "out")
    got = read_model(tmp_path / "out")
    want = mdm_oc(base, models, constant(base), scope=scope, how=how, lam=0.5)
    for name, t in base.items():
        if t.dtype.is_floating_point:
            assert torch.allclose(got[name], want[name], rtol=0, atol=1e-9), name


def test_odd_tensors_in_their_own_dtypes(tmp_path: Path) -> None:
    base, models = family(tmp_path, "0.3", ODD)
    mdm_kit.merge(recipe(tmp_path), tmp_path / "out")
    got = read_model(tmp_path / "out")
    want = mdm_oc(base, models, constant(base))
    for name, t in base.items():
        if not t.dtype.is_floating_point:
            assert torch.equal(got[name], t)
            continue
        spread = t.double().abs() + sum(4 * (m[name].double() - t.double()).abs() for m in models)
        dense.assert_accurate(got[name], want[name], want[name] - t.double(), spread)


def test_alpha_may_differ_by_layer_and_name_within_a_shared_basis(tmp_path: Path) -> None:
    base, models = family(tmp_path, "0.3")
    alpha = ("[1.0, 0.0]", "[{filter: mlp, value: 0.5}, {value: 0.25}]", "1.0")
    mdm_kit.merge(recipe(tmp_path, "scope: global", "out_dtype: float64", alpha), tmp_path / "out")
    got = read_model(tmp_path / "out")
    by_tensor = {
        n: (0.0 if "layers.1" in n else 1.0, 0.5 if "mlp" in n else 0.25, 1.0) for n in base
    }
    want = mdm_oc(base, models, by_tensor, scope="global")
    for name, t in base.items():
        if t.dtype.is_floating_point:
            assert torch.allclose(got[name], want[name], rtol=0, atol=1e-9), name


def promised(folder: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes()
        for p in folder.iterdir()
        if p.suffix == ".safetensors" or p.name == "config.json"
    }


@pytest.mark.parametrize("scope", ["tensor", "layer", "global"])
def test_budget_threads_and_shards_do_not_show(tmp_path: Path, scope: str) -> None:
    family(tmp_path, "0.3")
    text = recipe(tmp_path, f"scope: {scope}", "out_dtype: bfloat16")
    seen = set()
    for i, (memory, threads) in enumerate(itertools.product((1, 2_000_000_000), (1, 4))):
        with mdm_kit.plan(text, threads=threads, memory_nbytes=memory) as plan:
            twice = plan.costs.read_twice
        assert bool(twice) == (memory == 1 or scope != "tensor")
        out = tmp_path / f"out{i}"
        mdm_kit.merge(text, out, threads=threads, memory_nbytes=memory)
        seen.add(tuple(sorted(promised(out).items())))
    assert len(seen) == 1


def test_a_near_copy_is_summed_again_with_compensation(tmp_path: Path) -> None:
    """Reading once and reading twice agree there too."""
    family(tmp_path, "0.999999999")
    text = recipe(tmp_path, "scope: tensor")
    mdm_kit.merge(text, tmp_path / "once")
    mdm_kit.merge(text, tmp_path / "twice", memory_nbytes=1)
    assert promised(tmp_path / "once") == promised(tmp_path / "twice")


def test_the_ledger_and_the_manifest_hold_the_numbers(tmp_path: Path) -> None:
    base, models = family(tmp_path, "0.3")
    mdm_kit.merge(recipe(tmp_path, "scope: layer"), tmp_path / "out")
    manifest = mdm_kit.Manifest.from_bytes((tmp_path / "out/mdm_manifest.json").read_bytes())
    assert manifest.ledger is not None
    assert manifest.ledger.models == ["m1", "m2", "m3"]
    rows = load_file(tmp_path / "out/mdm_ledger.safetensors")["gram"]
    for name, row in zip(manifest.ledger.tensors, rows, strict=True):
        d = torch.stack([(m[name].double() - base[name].double()).flatten() for m in models])
        full = d @ d.T
        want = torch.stack([full[i, j] for i in range(3) for j in range(i + 1)])
        assert torch.allclose(row, want, rtol=1e-6)
    group = manifest.groups["model.layers.1.*"]
    assert group.tensors == ["model.layers.1.mlp.w", "model.layers.1.norm.weight"]
    assert group.largest_cosine == pytest.approx(0.3, abs=0.02)
    assert group.dependent == []
    assert manifest.groups["model.norm.weight"].tensors == ["model.norm.weight"]
    weights = manifest.tensors["model.layers.1.mlp.w"].weights
    assert weights is not None
    assert weights[2] == -0.4  # the last model's component is its own delta's novelty
    assert manifest.tensors["model.ids"].weights is None
    assert mdm_kit.verify(tmp_path / "out").sound


def test_a_model_without_novelty_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mdm_kit.cli.main import main

    family(tmp_path, "copy")
    path = tmp_path / "r.yml"
    path.write_text(recipe(tmp_path))
    assert main(["merge", str(path), str(tmp_path / "out")]) == 0
    assert "m3 adds nothing of its own in 6 of 6 groups" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "out"), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["manifest"]["findings"]
    assert len(findings) == 1


def test_what_must_be_constant_is_refused_as_a_gradient(tmp_path: Path) -> None:
    family(tmp_path, "0.0")
    for parameters, said in (
        ("scope: [tensor, layer]", "one value for the whole merge"),
        ("scope: layers", "did you mean 'layer'?"),
        ("orthogonalize: loewdin", "did you mean 'lowdin'?"),
    ):
        with pytest.raises(mdm_kit.errors.RecipeError, match=said):
            mdm_kit.plan(recipe(tmp_path, parameters))


@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e200])
def test_what_cannot_be_measured_names_the_tensor(tmp_path: Path, scope: str, bad: float) -> None:
    base = {"v": torch.zeros(3, dtype=torch.float64), "w": torch.zeros(4, dtype=torch.float64)}
    write_model(tmp_path / "base", base)
    for i in (1, 2, 3):
        model = {n: t + i for n, t in base.items()}
        if i == 2:
            model["w"][3] = bad
        write_model(tmp_path / f"m{i}", model)
    with pytest.raises(mdm_kit.errors.NotFiniteError, match=r"^w: .*m1, m2, m3, base"):
        mdm_kit.merge(recipe(tmp_path, f"scope: {scope}"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_orthogonalize_none_is_task_arithmetic_to_the_byte(tmp_path: Path) -> None:
    family(tmp_path, "0.3", ODD)
    alpha = (0.5, 0.25, 1.0)
    plain = recipe(tmp_path, "orthogonalize: none", "", alpha)
    mdm_kit.merge(plain, tmp_path / "one")
    text = plain.replace("mdm_oc", "task_arithmetic").replace("orthogonalize: none", "")
    mdm_kit.merge(text, tmp_path / "two")
    assert read_model(tmp_path / "one").keys() == read_model(tmp_path / "two").keys()
    one, two = (promised(tmp_path / n)["model.safetensors"] for n in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("value", [4e151, 1e155])
@pytest.mark.parametrize("how", ["gram_schmidt", "lowdin", "none"])
def test_sums_that_leave_float64_stop_the_merge(tmp_path: Path, how: str, value: float) -> None:
    base = {"w": torch.zeros(131_072, dtype=torch.float64)}
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "m1", {"w": base["w"] + value})
    text = recipe(tmp_path, f"orthogonalize: {how}", "", (1.0,))
    for memory in (1, 2_000_000_000):
        with pytest.raises(mdm_kit.errors.NotFiniteError, match=r"^w: "):
            mdm_kit.merge(text, tmp_path / "out", memory_nbytes=memory)


@pytest.mark.parametrize("eps", [1e-3, 1e-5])
def test_lowdin_of_near_copies_in_float32(tmp_path: Path, eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    base = {"w": 0.01 * torch.randn(100, generator=generator)}
    m1 = {"w": base["w"] + 0.01 * torch.randn(100, generator=generator)}
    m2 = {"w": m1["w"] + 0.01 * eps * torch.randn(100, generator=generator)}
    for name, model in (("base", base), ("m1", m1), ("m2", m2)):
        write_model(tmp_path / name, model)
    mdm_kit.merge(recipe(tmp_path, "orthogonalize: lowdin", "", (1.0, -0.5)), tmp_path / "out")
    want = mdm_oc(base, [m1, m2], {"w": (1.0, -0.5)}, how="lowdin")["w"]
    got = read_model(tmp_path / "out")["w"]
    dense.assert_accurate(got, want, want - base["w"].double(), base["w"].double().abs())


def test_a_tensor_named_like_a_group_stays_apart(tmp_path: Path) -> None:
    for scope, names in (
        ("layer", ("model.layers.0", "model.layers.0.w", "model.layers.0.v")),
        ("global", ("*", "all tensors", "w")),
    ):
        root = tmp_path / scope
        family(root, "0.3", dict.fromkeys(names, ((50,), torch.float32)))
        text = recipe(root, f"scope: {scope}")
        mdm_kit.merge(text, root / "one")
        mdm_kit.merge(text, root / "two", memory_nbytes=1)
        assert promised(root / "one") == promised(root / "two")
