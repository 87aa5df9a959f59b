"""Do the models fit together?  Compares headers and configs, and says every misfit with numbers."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mdm_kit.planner.patterns import is_head, may_be_per_token
from mdm_kit.planner.quantised import quantised
from mdm_kit.planner.survey import Survey, Surveyed
from mdm_kit.words import DTYPES, Finding, Kind, Level, TensorInfo, counted, shown, some

_OTHER_TENSORS = (
    "merge only models made from the same base, saved by the same kind of tool; "
    "on_mismatch: base takes such tensors from the base, skip from the models that have them"
)


def faults(survey: Survey) -> list[Finding]:
    """Return what keeps each surveyed model by itself from being merged, or should be known.

    Of a stage's result it was said of the models it is made of.
    """
    return [f for s in survey.sources if s.source.origin().kind != "stage" for f in _own(s)]


def misfits(
    survey: Survey, aligning: Mapping[str, str | None], other_tensors: str = _OTHER_TENSORS
) -> list[Finding]:
    """Return what keeps the surveyed models from being merged with one another.

    `aligning` says by a model's name what would make its vocabulary fit the donor's; None where
    that it does not has been said. `other_tensors` is what to do about tensors only one has.
    """
    donor = survey.donor
    others = [s for s in survey.sources if s is not donor]
    # Codes agree with nothing, and that they do not says nothing more.
    codes = {s.name for s in survey.sources if quantised(s)}
    if donor.name in codes:
        return []
    known = survey.passed | survey.partial
    fair = [s for s in others if s.name not in codes]
    return [
        f for s in fair for f in _against(donor, s, known, aligning.get(s.name, ""), other_tensors)
    ]


def _own(model: Surveyed) -> list[Finding]:
    found = []
    if not model.checkpoint.tensors:
        found.append(_error(model, f"{model.name} holds no tensors at all"))
    codes = quantised(model)
    if codes is not None:
        found.append(codes)
    for where, config in _configs(model.config):
        if config.get("auto_map"):
            found.append(
                Finding(
                    Level.WARNING,
                    Kind.MISFIT,
                    f"{model.name} brings its own Python code (auto_map in {where}); mdm_kit "
                    "never runs or copies it, so the result may need trust_remote_code and "
                    "that code from elsewhere to load",
                    place=model.place,
                )
            )
    return found


def _configs(config: Mapping[str, object] | None) -> list[tuple[str, Mapping[str, object]]]:
    if config is None:
        return []
    nested = [(f"config.json, {k}", v) for k, v in config.items() if isinstance(v, dict)]
    return [("config.json", config), *nested]


def _against(
    donor: Surveyed,
    other: Surveyed,
    passed: Container[str],
    aligning: str | None,
    other_tensors: str,
) -> list[Finding]:
    want, got = donor.checkpoint.tensors, other.checkpoint.tensors
    missing = [name for name in want if name not in got and name not in passed]
    extra = [name for name in got if name not in want]
    found = []
    if missing:
        found.append(
            _error(
                other,
                f"{other.name} lacks {len(missing)} of the {len(want)} tensors of "
                f"{donor.name}: {some(missing)}",
                _head_hint(donor, other, missing) or other_tensors,
            )
        )
    if extra:
        found.append(
            _error(
                other,
                f"{other.name} has {_n(extra)} that {donor.name} lacks: {some(extra)}",
                _head_hint(other, donor, extra) or other_tensors,
            )
        )
    both = [_Pair(n, t, got[n]) for n, t in want.items() if n in got and n not in passed]
    found += _shapes(donor, other, [p for p in both if p.want.shape != p.got.shape], aligning)
    found += _kinds(donor, other, [p for p in both if p.want.shape == p.got.shape])
    return found


@dataclass(frozen=True, slots=True)
class _Pair:
    """A tensor of the donor and another model's, by its name in the result."""

    name: str
    want: TensorInfo
    got: TensorInfo


def _head_hint(whole: Surveyed, lacking: Surveyed, names: Iterable[str]) -> str:
    if all(is_head(name) for name in names):
        return (
            f"{lacking.name} ties its output head to its embedding and {whole.name} does not; "
            "untie or tie one of them before merging"
        )
    return ""


def _shapes(
    donor: Surveyed, other: Surveyed, pairs: Sequence[_Pair], aligning: str | None
) -> list[Finding]:
    vocabulary = all(may_be_per_token(p.name) for p in pairs)
    if not pairs or (vocabulary and aligning is None):
        return []
    listed = [f"{shown(p.name)} {list(p.want.shape)} against {list(p.got.shape)}" for p in pairs]
    transposed = all(p.want.shape == p.got.shape[::-1] for p in pairs)
    hint = ""
    if vocabulary:
        hint = aligning or "their embeddings differ in more than the number of their rows"
    elif transposed:
        hint = "one of them stores its weights transposed (GPT-2's Conv1D against Linear)"
    return [
        _error(
            other,
            f"{_n(pairs)} of {other.name} of another shape than in {donor.name}: "
            + some(listed, escape=False),
            hint,
        )
    ]


def _kinds(donor: Surveyed, other: Surveyed, pairs: Sequence[_Pair]) -> list[Finding]:
    clash = [
        f"{shown(p.name)} {p.want.dtype} against {p.got.dtype}"
        for p in pairs
        if p.want.dtype != p.got.dtype
        and not (DTYPES[p.want.dtype].merges and DTYPES[p.got.dtype].merges)
    ]
    differ = [p for p in pairs if p.want.dtype != other.as_stored(p.got).dtype]
    if clash:
        return [
            _error(
                other,
                f"{_n(clash)} of {other.name} of a dtype that does not mix with "
                f"{donor.name}'s: {some(clash, escape=False)}",
                "only F64, F32, F16 and BF16 can be merged with one another",
            )
        ]
    if differ:
        return [
            Finding(
                Level.NOTE,
                Kind.MISFIT,
                f"{_n(differ)} stored as {differ[0].got.dtype} in {other.name} "
                f"and as {differ[0].want.dtype} in {donor.name}; both are read exactly",
                place=other.place,
            )
        ]
    return []


def _error(model: Surveyed, message: str, hint: str = "") -> Finding:
    return Finding(Level.ERROR, Kind.MISFIT, message, hint, model.place)


def _n(tensors: Sequence[object]) -> str:
    return counted(len(tensors), "tensor")
