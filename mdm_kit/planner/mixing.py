"""The output tensors of a mixture: the base's, each expert's under new names, and routers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

from mdm_kit.methods.moe import Params
from mdm_kit.mixture.gates import BY_CHANCE, GateSource, Prompted
from mdm_kit.mixture.noise import NoiseSource
from mdm_kit.planner.layer_config import ConfigEdit
from mdm_kit.planner.mixtures import DENSE, Target, target_of
from mdm_kit.planner.nodes import Apply, Read, Same, Write
from mdm_kit.planner.patterns import layer_position
from mdm_kit.planner.survey import Survey, Surveyed, surveyed
from mdm_kit.planner.writes import copy_of
from mdm_kit.recipe import Expert, Mixture, Recipe
from mdm_kit.vocabulary import has_tokenizer
from mdm_kit.words import DTYPES, Finding, Kind, Level, TensorInfo, shown

METHOD = "moe"
DEFAULT_PER_TOKEN = 2
_EXPERTS, _SHARED = "experts", "shared"


@dataclass(slots=True)
class Mixed:
    """A mixture's tensors, the keys of its config, the sources that are made, what is wrong.

    `prompts_nbytes` is what running the prompts reads of the base, beside their rows of tokens.
    """

    writes: list[Write] = field(default_factory=list)
    edits: list[ConfigEdit] = field(default_factory=list)
    made: list[Surveyed] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    prompts_nbytes: int = 0


def mixture_findings(recipe: Recipe, mixture: Mixture) -> list[Finding]:
    """Return what is wrong with a mixture before a model is opened."""
    place = recipe.merge_method.place
    found = []
    if recipe.base_model is None:
        hint = "write base_model: the model that gives all but the experts"
        found.append(_wrong("a mixture needs a base_model", recipe, hint))
    if recipe.tokenizer is not None and not recipe.tokenizer.is_plain:
        what = "a mixture has its base's vocabulary, and the recipe asks for another"
        found.append(_wrong(what, recipe, "leave tokenizer out; merge the experts with it first"))
    per_token = mixture.per_token or DEFAULT_PER_TOKEN
    if len(mixture.experts) < per_token:
        what = f"{per_token} experts per token and {len(mixture.experts)} experts"
        found.append(_wrong(what, recipe, "list more experts, or write experts_per_token: 1"))
    if mixture.gate_mode not in BY_CHANCE:
        found += _prompt_findings(recipe, mixture)
    if recipe.ledger not in ("references", "none"):
        what = f"ledger: {{keep: {recipe.ledger}}} keeps what was merged, and experts are copies"
        found.append(_wrong(what, recipe, "leave it out: the ledger then keeps references"))
    if len({e.entry.ref for e in mixture.experts}) == 1 and not any(
        e.noise_scale for e in mixture.experts
    ):
        what = "all experts are the same model, so the mixture gives what one of them gives"
        found.append(Finding(Level.WARNING, Kind.RECIPE, what, place=place))
    return found


def _prompt_findings(recipe: Recipe, mixture: Mixture) -> list[Finding]:
    hint = "write positive_prompts, or gate_mode: random and train the router afterwards"
    silent = [e for e in mixture.experts if not e.positive]
    found = [
        Finding(
            Level.ERROR,
            Kind.RECIPE,
            f"the expert {shown(e.entry.name)} has no positive_prompts, and gates come of them",
            hint,
            e.entry.place,
        )
        for e in silent
    ]
    texts = {(e.positive, e.negative) for e in mixture.experts}
    if not silent and len(mixture.experts) > 1 and len(texts) == 1:
        what = "all experts have the same prompts, so no gate tells them apart"
        found.append(_wrong(what, recipe))
    return found


def mixture_of(recipe: Recipe, mixture: Mixture, survey: Survey) -> Mixed:
    """Return the tensors of a mixture; without tensors where something is wrong."""
    mixed = Mixed()
    base = survey.base
    config = (base.config if base else None) or {}
    target = target_of(
        mixture.architecture,
        str(config.get("model_type", "unknown")),
        len(mixture.shared),
        gated=mixture.gate_mode in BY_CHANCE or all(e.positive for e in mixture.shared),
    )
    if base is None or isinstance(target, str):
        mixed.findings.append(_wrong(str(target), recipe))
        return mixed
    models = {m.name: m for m in survey.models}
    mixed.findings += _misfits(base, [models[m.name] for m in recipe.models])
    if mixture.gate_mode not in BY_CHANCE and not has_tokenizer(base.source):
        what = f"{shown(base.name)} has no tokenizer, and gates come of prompts it reads"
        hint = "save its tokenizer beside its weights, or write gate_mode: random"
        mixed.findings.append(Finding(Level.ERROR, Kind.MISFIT, what, hint, base.place))
    if _biased(config):
        what = "its layers have biases (attention_bias, mlp_bias), and the mixture's have none"
        mixed.findings.append(_wrong(f"{shown(base.name)}: {what}", recipe))
    if mixed.findings:
        return mixed
    made = _Mixing(recipe, mixture, target, base, models)
    mixed.writes = made.writes()
    mixed.made = made.sources()
    mixed.prompts_nbytes = made.prompts_nbytes()
    k = mixture.per_token or DEFAULT_PER_TOKEN
    keys = target.keys(config, len(mixture.experts), k, len(mixture.shared))
    mixed.edits = [ConfigEdit((key,), value) for key, value in keys.items()]
    mixed.findings += _notes(recipe, mixture, target)
    return mixed


def _biased(config: Mapping[str, Any]) -> bool:
    return bool(config.get("attention_bias") or config.get("mlp_bias"))


def _misfits(base: Surveyed, models: Sequence[Surveyed]) -> list[Finding]:
    """Return what keeps models from being experts of the base's layers."""
    want = {n: t for n, t in base.checkpoint.tensors.items() if DENSE.match(n)}
    if not want:
        what = f"{shown(base.name)} has no feed-forward tensors (mlp.gate_proj …) to replace"
        return [Finding(Level.ERROR, Kind.MISFIT, what, place=base.place)]
    found = []
    for model in models:
        tensors = model.checkpoint.tensors
        wrong = [n for n, t in want.items() if n not in tensors or tensors[n].shape != t.shape]
        if wrong:
            what = f"{shown(model.name)} lacks {len(wrong):,} of the {len(want):,} feed-forward "
            what += f"tensors of {shown(base.name)}, or has them in other shapes: {shown(wrong[0])}"
            hint = "experts need the base's number of layers and sizes"
            found.append(Finding(Level.ERROR, Kind.MISFIT, what, hint, model.place))
    return found


def _notes(recipe: Recipe, mixture: Mixture, target: Target) -> list[Finding]:
    found = []
    n = len(mixture.experts)
    if n & (n - 1):
        what = f"{n} experts are no power of two, which llama.cpp asks for"
        found.append(Finding(Level.NOTE, Kind.RECIPE, what, place=recipe.merge_method.place))
    if target.name == "deepseek":
        what = (
            "transformers has no model of the type 'deepseek' of its own: the result loads with "
            "code of deepseek-ai/deepseek-moe-16b-base, and trust_remote_code"
        )
        found.append(Finding(Level.NOTE, Kind.RECIPE, what, place=recipe.merge_method.place))
    return found


class _Mixing:
    """Builds the tensors of one mixture."""

    def __init__(
        self,
        recipe: Recipe,
        mixture: Mixture,
        target: Target,
        base: Surveyed,
        models: Mapping[str, Surveyed],
    ) -> None:
        self._recipe, self._mixture, self._target = recipe, mixture, target
        self._base, self._models = base, models
        self._dense = [t for n, t in base.checkpoint.tensors.items() if DENSE.match(n)]
        taken = {*models, base.name}
        self._gates, self._noise = self._gate_source(taken), self._noise_source(taken)

    def sources(self) -> list[Surveyed]:
        """Return the sources of routers and of noise, which no model holds."""
        return [s for s in (self._gates, self._noise) if s is not None]

    def prompts_nbytes(self) -> int:
        """Return what the states of prompts are made of: all layers but the last."""
        if not self._mixture.gate_mode.startswith("hidden"):
            return 0
        tensors = self._base.checkpoint.tensors.items()
        inside = [(p.index, t.nbytes) for n, t in tensors if (p := layer_position(n))]
        last = max(i for i, _ in inside)
        return sum(nbytes for i, nbytes in inside if i < last)

    def writes(self) -> list[Write]:
        """Return the tensors in the base's order, the routers behind the experts of a layer."""
        found: list[Write] = []
        for name, info in self._base.checkpoint.tensors.items():
            match = DENSE.match(name)
            if match is None:
                found.append(copy_of(self._recipe, name, info, info.dtype))
                continue
            before, part = match.groups()
            each = zip(self._names(name), self._mixture.everyone, strict=True)
            found += [self._expert(new, name, part, expert) for new, expert in each]
            if part == "down":
                found += self._routers(before)
        return found

    def _names(self, name: str) -> list[str]:
        """Return what a feed-forward tensor is called in each expert, shared ones behind."""
        match = DENSE.match(name)
        assert match is not None  # noqa: S101 -- the caller asks for no other
        before, part = match[1], self._target.parts[match[2]]
        experts = range(len(self._mixture.experts))
        names = [before + self._target.expert.format(expert=i, part=part) for i in experts]
        return names + [before + self._target.shared.format(part=part)] * len(self._mixture.shared)

    def _expert(self, new: str, name: str, part: str, expert: Expert) -> Write:
        info = self._models[expert.entry.name].checkpoint.tensors[name]
        scale = expert.residual_scale if part == "down" else 1.0
        reads, weights = [Read(info)], [scale]
        if expert.noise_scale and self._noise is not None:
            reads.append(Read(self._noise.checkpoint.tensors[new]))
            weights.append(scale * expert.noise_scale)
        return self._write(new, info, reads, weights)

    def _routers(self, before: str) -> list[Write]:
        position = layer_position(before)
        assert position is not None  # noqa: S101 -- feed-forward tensors stand in layers
        tensors = self._gates.checkpoint.tensors
        like = tensors[f"{_EXPERTS}.{position.index}"]
        found = [self._write(before + self._target.router, like, [Read(like)], [1.0])]
        shared = tensors.get(f"{_SHARED}.{position.index}")
        if shared is not None and self._target.shared_router:
            name = before + self._target.shared_router
            found.append(self._write(name, shared, [Read(shared)], [1.0]))
        return found

    def _write(
        self, name: str, like: TensorInfo, reads: Sequence[Read], weights: Sequence[float]
    ) -> Write:
        """Return a sum of tensors, or a copy of one where that is all it is."""
        out = self._recipe.out_dtype or self._recipe.dtype
        if out is None:
            made = like.source == self._gates.name
            out = DTYPES[self._dense[0].dtype if made else like.dtype]
        if list(weights) == [1.0] and out.name == like.dtype:
            return Write(name, like.shape, like.dtype, like.nbytes, Same(tuple(reads)))
        apply = Apply(METHOD, tuple(reads), Params(weight=tuple(weights)), "float64")
        return Write(name, like.shape, out.name, like.n_elements * out.bits // 8, apply)

    def _gate_source(self, taken: set[str]) -> Surveyed:
        groups = {_EXPERTS: self._mixture.experts}
        if self._target.shared_router:
            groups[_SHARED] = self._mixture.shared
        prompted = {
            group: [Prompted(e.entry.name, e.positive, e.negative) for e in experts]
            for group, experts in groups.items()
        }
        hidden = next(t.shape[0] for t in self._dense if "down_proj" in t.name)
        n_layers = 1 + max(p.index for t in self._dense if (p := layer_position(t.name)))
        name = _free(taken, "gates")
        made = GateSource(
            name,
            self._base.source,
            prompted,
            self._mixture.gate_mode,
            (n_layers, hidden),
            self._recipe.seed,
        )
        return surveyed(name, made, owned=True)

    def _noise_source(self, taken: set[str]) -> Surveyed | None:
        noisy = {i for i, e in enumerate(self._mixture.everyone) if e.noise_scale}
        shapes = {
            new: info.shape
            for info in self._dense
            for i, new in enumerate(self._names(info.name))
            if i in noisy
        }
        if not shapes:
            return None
        name = _free(taken, "noise")
        return surveyed(name, NoiseSource(name, shapes, self._recipe.seed), owned=True)


def _free(taken: set[str], name: str) -> str:
    found = next(n for n in chain([name], (f"{name}_{i}" for i in count(2))) if n not in taken)
    taken.add(found)
    return found


def _wrong(message: str, recipe: Recipe, hint: str = "") -> Finding:
    return Finding(Level.ERROR, Kind.RECIPE, message, hint, recipe.merge_method.place)
