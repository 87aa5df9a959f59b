"""`--compat mergekit` against mergekit 0.1.5 on one torch thread: the same bytes, tensor by tensor.

mergekit takes any of several equal magnitudes; where there are some, its selections are made to
take the lowest index, as ours do.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from families import read_model
from mergekit_runs import assert_same_bits
from torch import Tensor

import mdm_kit
from mdm_kit.errors import MisfitError
from mdm_kit.methods.registry import methods
from mdm_kit.sources import MemorySource

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # of its imports
    pytest.mark.skipif(
        not importlib.util.find_spec("mergekit"), reason="mergekit is not installed"
    ),
]

SHAPES = [
    (),
    (1,),
    (40,),
    (9, 17),
    (3, 5, 7),
    (2, 3, 4, 5),
    (1, 50),
    (50, 1),
    (300, 701),
    (40_000,),
    (1100, 1001),  # more than one of the pieces slerp sums by
]
WEIGHT = (0.3, 0.9, -0.2)
SIZES = (0.02, 0.7)
"""How far models are from their base: where arcs are nearly straight, and where they are not."""

GTA = {"weight": WEIGHT, "normalize": [False, True], "lambda": [1.0, 0.7]}
CASES: dict[str, dict[str, Any]] = {
    "linear": {"weight": (0.3, 0.9, 0.6), "normalize": [True, False]},
    "passthrough": {"scale": ((0.7,), (None,))},
    "slerp": {"t": [0.3, 0.0, 1.0]},
    "nuslerp": {"weight": (0.6, 0.2), "nuslerp_flatten": [True, False, False]}
    | {"nuslerp_row_wise": [False, False, True]},
    "multislerp": {"weight": (0.3, 0.6, 0.2), "normalize_weights": [True, False]},
    "karcher": {"max_iter": [10, 3]},
    "task_arithmetic": GTA,
    "ties": GTA | {"density": (0.5, 0.31, 1.0), "rescale": [True, False]},
    "breadcrumbs": GTA | {"density": (0.9, 0.5, 0.2), "gamma": (0.01, 0.2, 0.9)},
    "breadcrumbs_ties": GTA
    | {"density": (0.9, 0.5, 1.0), "gamma": (0.01, 0.0, 0.9), "rescale": [True, False]},
    "dare_linear": GTA | {"density": 1.0},
    "dare_ties": GTA | {"density": 1.0},
    "della": GTA | {"density": 1.0},
    "della_linear": GTA | {"density": 1.0},
    "sce": {"select_topk": [1.0, 0.4, 0.01, 0.0]},
    "model_stock": {"filter_wise": [False, True]},
    "nearswap": {"t": [0.005, 0.0, 1.0]},
    "arcee_fusion": {},
    "ram": {"epsilon": [0.02, 1e-5]},
    "ramplus_tl": {"epsilon": 0.02, "r": 0.7, "alpha": 0.6},
}
"""Parameters by method: tuples have a value for each model, lists one for each variant."""

K = {"passthrough": 1, "slerp": 1, "nuslerp": 2, "nearswap": 1, "arcee_fusion": 1}
BASELESS = ("linear", "passthrough", "karcher")
VARIANTS = [
    (name, i)
    for name, values in CASES.items()
    for i in range(max((len(v) for v in values.values() if isinstance(v, list)), default=1))
]


def variant(name: str, i: int) -> dict[str, Any]:
    picked = {}
    for key, value in CASES[name].items():
        chosen = value[i % len(value)] if isinstance(value, list) else value
        if isinstance(chosen, tuple) and isinstance(chosen[0], tuple):
            chosen = chosen[i % len(chosen)]
        picked[key] = chosen
    return picked


def models_of(name: str, dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    """The base and models: every shape at two distances, unchanged tensors and zeros."""
    g = torch.Generator().manual_seed(17)
    shapes = [s for s in SHAPES if name != "arcee_fusion" or torch.Size(s).numel() <= 1_000_000]
    k = K.get(name, 3)
    found: dict[str, dict[str, Tensor]] = {n: {} for n in ("base", *(f"m{i}" for i in range(k)))}
    for shape in shapes:
        base = torch.randn(shape, generator=g, dtype=torch.float64)
        for size in SIZES:
            key = f"w{'x'.join(map(str, shape))}-{size}"
            found["base"][key] = base.to(dtype)
            for i in range(k):
                step = torch.randn(shape, generator=g, dtype=torch.float64)
                found[f"m{i}"][key] = (base + size * step).to(dtype)
    for i, model in enumerate(found.values()):
        model["copied"] = found["base"]["w9x17-0.02"].clone()
        model["negative zero"] = torch.full((5, 3), -0.0, dtype=dtype)
        model["one changed"] = (model if i < 2 else found["m0"])["w40-0.7"].clone()
    return found


def recipe(name: str, values: Mapping[str, Any], models: list[str], more: str = "") -> str:
    """A recipe in the dialect of both."""
    of_models = {s.name for s in methods()[name].params.specs() if s.per_model}
    listed = []
    for i, model in enumerate(models):
        own = {
            key: v[i] if isinstance(v, tuple) else v
            for key, v in values.items()
            if key in of_models and (v[i] if isinstance(v, tuple) else v) is not None
        }
        listed.append({"model": model, "parameters": own})
    shared = {key: v for key, v in values.items() if key not in of_models}
    text = {"merge_method": name, "models": listed, "parameters": shared}
    return yaml.safe_dump(text, sort_keys=False) + more


def ours(
    name: str, values: Mapping[str, Any], models: dict[str, dict[str, Tensor]], out: Path, more: str
) -> dict[str, Tensor]:
    given = {f"org/{n}": MemorySource.from_tensors(n, t) for n, t in models.items()}
    listed = [n for n in given if n != "org/base"]
    base = "" if name in BASELESS else "\nbase_model: org/base\n"
    mdm_kit.merge(
        recipe(name, values, listed, f"{base}{more}\n"), out, sources=given, compat="mergekit"
    )
    return read_model(out)


def theirs(
    name: str,
    values: Mapping[str, Any],
    models: dict[str, dict[str, Tensor]],
    dtype: torch.dtype | None = None,
    out_dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """What mergekit makes of each tensor, but for those it gives up on or makes NaN of."""
    from mergekit.merge_methods import merge_tensors

    used = {n: m for n, m in models.items() if n != "base" or name not in BASELESS}
    base_index = 0 if "base" in used else None
    params = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}
    found = {}
    for key in next(iter(used.values())):
        with contextlib.suppress(ValueError):
            merged = merge_tensors(
                [m[key] for m in used.values()],
                name,
                parameters=params,
                base_index=base_index,
                dtype=dtype,
                out_dtype=out_dtype,
            )
            if bool(merged.isfinite().all()):
                found[key] = merged.contiguous()
    return found


@pytest.fixture(autouse=True)
def _on_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def lowest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let selections of mergekit prefer the lowest index among equal magnitudes."""
    argsort = torch.argsort

    def sort(x: Tensor, descending: bool = False) -> Any:
        order = argsort(x, descending=True, stable=True)
        order = order if descending else order.flip(0)
        return torch.return_types.sort((x[order], order))

    def topk(x: Tensor, k: int, largest: bool) -> Any:
        order = argsort(x, descending=largest, stable=True)[:k]
        return torch.return_types.topk((x[order], order))

    monkeypatch.setattr(torch, "argsort", partial(argsort, stable=True))
    monkeypatch.setattr(torch, "sort", sort)
    monkeypatch.setattr(torch, "topk", topk)


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))


def test_every_method_of_the_dialect_is_tried() -> None:
    assert set(CASES) == {name for name, m in methods().items() if m.dialect}


@dtypes
@pytest.mark.parametrize(("name", "i"), VARIANTS)
@pytest.mark.usefixtures("lowest_first")
def test_the_bits_are_mergekits(name: str, i: int, dtype: torch.dtype, tmp_path: Path) -> None:
    models = models_of(name, dtype)
    values = variant(name, i)
    if name == "passthrough":
        models = {n: m for n, m in models.items() if n == "m0"}
    want = theirs(name, values, models)
    assert len(want) >= len(SHAPES)
    for key in models["m0"].keys() - want.keys():
        alone = {n: {key: m[key]} for n, m in models.items()}
        with pytest.raises(MisfitError, match=r"cancel|nan|inf"):
            ours(name, values, alone, tmp_path / "out", "")
    sound = {n: {key: m[key] for key in want} for n, m in models.items()}
    assert_same_bits(ours(name, values, sound, tmp_path / "out", ""), want)


NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
MIXED = (torch.bfloat16, torch.float16, torch.bfloat16, torch.float32)
DTYPES_SAID: dict[str, tuple[Any, torch.dtype | None, torch.dtype | None]] = {
    "float32 in bfloat16": (torch.float32, torch.bfloat16, None),
    "bfloat16 in float32 to bfloat16": (torch.bfloat16, torch.float32, torch.bfloat16),
    "float32 in float16 to float32": (torch.float32, torch.float16, torch.float32),
    "bfloat16 to float16": (torch.bfloat16, None, torch.float16),
    "mixed": (MIXED, None, None),
    "mixed 16 bits": ((torch.bfloat16, torch.float16), None, None),
    "mixed to bfloat16": (MIXED, None, torch.bfloat16),
}
"""What models are stored as, `dtype` and `out_dtype`."""


@pytest.mark.parametrize("said", DTYPES_SAID.values(), ids=DTYPES_SAID)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("lowest_first")
def test_dtypes_are_cast_and_promoted_as_in_mergekit(
    name: str, said: tuple[Any, torch.dtype | None, torch.dtype | None], tmp_path: Path
) -> None:
    stored, dtype, out_dtype = said
    kinds = stored if isinstance(stored, tuple) else (stored,)
    models = {
        n: {k: t.to(kinds[i % len(kinds)]) for k, t in m.items() if t.numel() < 300_000}
        for i, (n, m) in enumerate(models_of(name, torch.float32).items())
        if name != "passthrough" or n == "m0"
    }
    more = f"dtype: {NAMES[dtype]}\n" if dtype else ""
    more += f"out_dtype: {NAMES[out_dtype]}\n" if out_dtype else ""
    values = variant(name, 0)
    want = theirs(name, values, models, dtype, out_dtype)
    sound = {n: {key: m[key] for key in want} for n, m in models.items()}
    assert len(want) >= 12
    assert_same_bits(ours(name, values, sound, tmp_path / "out", more), want)


WITHOUT_TIES = [
    (name, dtype)
    for name in ("ties", "breadcrumbs", "breadcrumbs_ties", "sce")
    for dtype in DTYPES[:3]
    if name != "sce" or dtype is torch.float32  # squares of neighbours are equal in 16 bits
]


@pytest.mark.parametrize(("name", "dtype"), WITHOUT_TIES)
def test_selections_without_ties_are_mergekits_as_they_are(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Magnitudes of changes that are all different: 1,600 neighbouring numbers, shuffled."""
    g = torch.Generator().manual_seed(3)
    n = 1600
    first = torch.tensor([0.01], dtype=dtype).view(
        torch.int32 if dtype is torch.float32 else torch.int16
    )
    models = {"base": {"w": torch.zeros(40, 40, dtype=dtype)}}
    for i in range(1 if name == "sce" else 3):
        size = (first + torch.randperm(n, generator=g).to(first.dtype)).view(dtype)
        sign = torch.randint(0, 2, (n,), generator=g) * 2 - 1
        models[f"m{i}"] = {"w": (size * sign.to(dtype)).reshape(40, 40)}
    if name == "sce":  # which ranks by spread: of one model and the base, that of its change
        models["m1"] = {"w": torch.zeros(40, 40, dtype=dtype)}
    values = variant(name, 1)
    assert_same_bits(ours(name, values, models, tmp_path / "out", ""), theirs(name, values, models))
