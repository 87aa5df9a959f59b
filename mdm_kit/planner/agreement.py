"""Do the models fit together?  Compares headers and configs, and says every misfit with numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mdm_kit.planner.patterns import is_embedding, is_head
from mdm_kit.planner.survey import Survey, Surveyed
from mdm_kit.words import DTYPES, Finding, Kind, Level, TensorInfo, shown

NAMES_SHOWN = 5
"""How many tensor names a finding lists before it only counts."""


def misfits(survey: Survey) -> list[Finding]:
    """Return what keeps the surveyed models from being merged, and what a person should know."""
    donor = survey.donor
    found = [f for s in survey.sources for f in _own(s)]
    for other in survey.sources:
        if other is not donor:
            found += _against(donor, other)
    return found


def _own(model: Surveyed) -> list[Finding]:
    found = []
    if not model.checkpoint.tensors:
        found.append(_error(model, f"{model.name} holds no tensors at all"))
    for where, config in _configs(model.config):
        quantised = config.get("quantization_config")
        if quantised:
            method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
            how = shown(str(method or "unknown method"), 60)
            found.append(
                _error(
                    model,
                    f"{model.name} is quantised ({how}, by {where}): its tensors are codes, "
                    "not weights that can be added",
                    "name the unquantised model it was made from",
                )
            )
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


def _against(donor: Surveyed, other: Surveyed) -> list[Finding]:
    want, got = donor.checkpoint.tensors, other.checkpoint.tensors
    missing = [name for name in want if name not in got]
    extra = [name for name in got if name not in want]
    found = []
    if missing:
        found.append(
            _error(
                other,
                f"{other.name} lacks {len(missing)} of the {len(want)} tensors of "
                f"{donor.name}: {_some(missing)}",
                _missing_hint(donor, other, missing),
            )
        )
    if extra:
        found.append(
            _error(
                other,
                f"{other.name} has {_n(extra)} that {donor.name} lacks: {_some(extra)}",
                _missing_hint(other, donor, extra),
            )
        )
    both = [(want[name], got[name]) for name in want if name in got]
    found += _shapes(donor, other, [(a, b) for a, b in both if a.shape != b.shape])
    found += _kinds(donor, other, [(a, b) for a, b in both if a.shape == b.shape])
    return found


def _missing_hint(whole: Surveyed, lacking: Surveyed, names: Iterable[str]) -> str:
    if all(is_head(name) for name in names):
        return (
            f"{lacking.name} ties its output head to its embedding and {whole.name} does not; "
            "untie or tie one of them before merging"
        )
    return "merge only models made from the same base, saved by the same kind of tool"


def _shapes(
    donor: Surveyed, other: Surveyed, pairs: list[tuple[TensorInfo, TensorInfo]]
) -> list[Finding]:
    if not pairs:
        return []
    listed = [f"{shown(a.name)} {list(a.shape)} against {list(b.shape)}" for a, b in pairs]
    vocabulary = all(is_embedding(a.name) or is_head(a.name) for a, _ in pairs)
    transposed = all(a.shape == b.shape[::-1] for a, b in pairs)
    hint = ""
    if vocabulary:
        hint = "their vocabularies differ; rows would have to be aligned by token first"
    elif transposed:
        hint = "one of them stores its weights transposed (GPT-2's Conv1D against Linear)"
    return [
        _error(
            other,
            f"{_n(pairs)} of {other.name} of another shape than in {donor.name}: "
            + _some(listed, escape=False),
            hint,
        )
    ]


def _kinds(
    donor: Surveyed, other: Surveyed, pairs: list[tuple[TensorInfo, TensorInfo]]
) -> list[Finding]:
    clash = [
        f"{shown(a.name)} {a.dtype} against {b.dtype}"
        for a, b in pairs
        if a.dtype != b.dtype and not (DTYPES[a.dtype].merges and DTYPES[b.dtype].merges)
    ]
    differ = [a for a, b in pairs if a.dtype != b.dtype]
    if clash:
        return [
            _error(
                other,
                f"{_n(clash)} of {other.name} of a dtype that does not mix with "
                f"{donor.name}'s: {_some(clash, escape=False)}",
                "only F64, F32, F16 and BF16 can be merged with one another",
            )
        ]
    if differ:
        first = differ[0]
        return [
            Finding(
                Level.NOTE,
                Kind.MISFIT,
                f"{_n(differ)} stored as {got_dtype(other, first)} in {other.name} "
                f"and as {first.dtype} in {donor.name}; both are read exactly",
                place=other.place,
            )
        ]
    return []


def got_dtype(model: Surveyed, like: TensorInfo) -> str:
    """Return the dtype `model` stores the tensor named like `like` in."""
    return model.checkpoint.tensors[like.name].dtype


def _error(model: Surveyed, message: str, hint: str = "") -> Finding:
    return Finding(Level.ERROR, Kind.MISFIT, message, hint, model.place)


def _n(tensors: Sequence[object]) -> str:
    return f"{len(tensors):,} tensor{'' if len(tensors) == 1 else 's'}"


def _some(names: list[str], *, escape: bool = True) -> str:
    first = [shown(n, 80) if escape else n for n in names[:NAMES_SHOWN]]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
