"""FusionBench's OPCM on a small network, beside the dense reference and the streamed projection."""

from __future__ import annotations

import copy
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from reference.opcm import norm, opcm
from torch import Tensor, nn

from mdm_kit.maths.projection import Projection
from mdm_kit.maths.strips import MatrixStrip

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
fusion_bench = pytest.importorskip("fusion_bench")

LINEAR = {"0.weight", "1.weight", "4.weight"}


@pytest.fixture(scope="module")
def theirs() -> Iterator[type]:
    """The class itself; its package also imports what needs another version of transformers."""
    assert fusion_bench.__file__
    package = types.ModuleType("fusion_bench.method.opcm")
    package.__path__ = [str(Path(fusion_bench.__file__).parent / "method" / "opcm")]
    before = sys.modules.get(package.__name__)
    sys.modules[package.__name__] = package
    try:
        yield importlib.import_module("fusion_bench.method.opcm.opcm_general").OPCM
    finally:
        del sys.modules[package.__name__]
        if before is not None:
            sys.modules[package.__name__] = before


class Pool:
    """Models as FusionBench asks for them."""

    def __init__(self, base: nn.Module, models: Sequence[nn.Module]) -> None:
        self._base, self._models = base, models
        self.model_names = [str(i) for i in range(len(models))]

    def load_pretrained_model(self) -> nn.Module:
        return copy.deepcopy(self._base)

    def load_model(self, name: str) -> nn.Module:
        return copy.deepcopy(self._models[int(name)])


def networks(n: int) -> tuple[nn.Module, list[nn.Module]]:
    """A base and models that moved a little from it, partly together, in float64."""
    torch.manual_seed(0)
    base = nn.Sequential(
        nn.Linear(24, 40), nn.Linear(40, 40), nn.LayerNorm(40), nn.ReLU(), nn.Linear(40, 9)
    ).double()
    common = {k: torch.randn_like(v) for k, v in base.state_dict().items()}
    models = []
    for _ in range(n):
        model = copy.deepcopy(base)
        for k, v in model.state_dict().items():
            v.add_(0.02 * torch.randn_like(v) + 0.01 * common[k])
        models.append(model)
    return base, models


def merged_by(cls: type, base: nn.Module, models: Sequence[nn.Module], alpha: float):
    algorithm = cls(alpha=alpha, shuffle_order=False, save_on_every_step=False)
    return algorithm.run(Pool(base, models)).state_dict()


def whole(model: dict[str, Tensor]) -> Tensor:
    return torch.cat([x.double().flatten() for x in model.values()])


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_the_dense_reference_is_fusionbench(theirs: type, alpha: float) -> None:
    base, models = networks(4)
    want = merged_by(theirs, base, models, alpha)
    states = [m.state_dict() for m in models]
    got = opcm(base.state_dict(), states, LINEAR, alpha=alpha, stored=torch.float64)
    assert (whole(got) - whole(want)).norm() <= 1e-9 * whole(want).norm()


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_the_streamed_projection_is_fusionbench(theirs: type, alpha: float) -> None:
    base, models = networks(4)
    start = base.state_dict()
    want = merged_by(theirs, base, models, alpha)
    changes = [{k: (x - start[k]).float() for k, x in m.state_dict().items()} for m in models]
    sums = {k: torch.zeros_like(x) for k, x in changes[0].items()}
    for name, total in sums.items():
        if name not in LINEAR:
            total.add_(sum(c[name] for c in changes))
            continue
        steps = Projection(MatrixStrip(total), alpha=alpha, variant="reference", tail_tol=None)
        for change in changes:
            steps.add(MatrixStrip(change[name]), 0.0)
    scale = sum(norm(c) for c in changes) / len(changes) / norm(sums)
    got = {k: x.double() + scale * sums[k].double() for k, x in start.items()}
    moved = (whole(want) - whole(start)).norm()
    assert (whole(got) - whole(want)).norm() <= 1e-5 * moved
