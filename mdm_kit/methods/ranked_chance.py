"""What DELLA's two methods share: chances that grow with an element's rank in its row."""

from __future__ import annotations

from mdm_kit.methods.contract import PerModel, per_model, shared
from mdm_kit.methods.masked import MaskedParams
from mdm_kit.methods.rules import DrawnByRank, Everything, Keep, Nothing, along


class DellaParams(MaskedParams):
    """Parameters of `della` and `della_linear`."""

    rescale: bool = shared(
        default=True, help="stretch what is kept to the change's sum of magnitudes"
    )
    epsilon: PerModel[float] = per_model(
        default=0.15,
        minimum=0.0,
        help="chances go from density - epsilon, for a row's smallest, to density + epsilon",
    )

    def problem(self) -> str:
        """Say so where a chance would not lie between 0 and 1."""
        for density, epsilon in zip(self.density, self.epsilon, strict=True):
            if 0.0 < density < 1.0 and not 0.0 < density - epsilon <= density + epsilon < 1.0:
                return (
                    f"density {density:g} ± epsilon {epsilon:g} must lie between 0 and 1; "
                    f"take an epsilon below {min(density, 1.0 - density):g}"
                )
        return ""


def by_rank(p: DellaParams, shape: tuple[int, ...]) -> list[Keep]:
    """Return each model's keep; rows lie along the second axis, a vector is one row."""
    vectors = along(shape, 1 if len(shape) > 1 else 0)
    keeps: list[Keep] = []
    for density, epsilon in zip(p.density, p.epsilon, strict=True):
        if density >= 1.0:
            keeps.append(Everything())
        elif density <= 0.0:
            keeps.append(Nothing())
        else:
            keeps.append(DrawnByRank(density - epsilon, density + epsilon, vectors))
    return keeps
