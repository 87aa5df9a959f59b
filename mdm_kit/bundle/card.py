"""The model card: front matter the Hub reads and a body people read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from mdm_kit.bundle.card_sums import sums_section
from mdm_kit.bundle.card_text import cell, command, fenced, plain_setting_text, table
from mdm_kit.ledger.entries import Mode, SourceEntry
from mdm_kit.ledger.manifest import Manifest
from mdm_kit.ledger.ways import WAYS, Way, usual_way, way_out
from mdm_kit.sources import is_repo_id
from mdm_kit.words import License, shown

_PLACE = re.compile(r"(.+?)@(sha256:[0-9a-f]{64}|[0-9a-f]{40})(?:\+|$)")
"""A model or an adapter in a reference; a folder's name has been made to fit."""
MAX_COMMANDS = 12
"""Nobody needs a command for each of a hundred models."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says beyond the manifest.

    `stated` is what the repositories of models from the Hub state as their licence, `weights` the
    smallest and largest number a model's tensors are multiplied by, both by model. `stepped_back`
    is true where the last model was taken out by going back to the sum before it.
    """

    title: str
    manifest: Manifest
    method_title: str
    dtype: str
    recipe_name: str
    dialect: bool
    library: str
    task: str | None = None
    license: License | None = None
    license_decided: bool = False
    stated: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    stepped_back: bool = False


def write_card(facts: CardFacts) -> bytes:
    """Return the bytes of README.md. Everything a stranger could have written is escaped."""
    sections = [
        _heading(facts),
        _models(facts),
        _licence(facts),
        sums_section(facts.manifest),
        _removed(facts),
        _ways_out(facts.manifest),
        f"## Recipe\n\n`{facts.recipe_name}`:\n\n{fenced(facts.manifest.recipe, 'yaml')}",
        _checks(facts.manifest),
    ]
    body = "\n\n".join(section for section in sections if section)
    return f"---\n{_front_matter(facts)}---\n\n{body}\n".encode()


def _front_matter(facts: CardFacts) -> str:
    fields: dict[str, object] = {"library_name": facts.library}
    if facts.task:
        fields["pipeline_tag"] = shown(facts.task)
    tags = ["merge", "mdm-kit", *(["mergekit"] if facts.dialect else []), facts.manifest.method]
    fields["tags"] = [shown(tag) for tag in tags]
    merged = _merged(facts.manifest)
    places = [r for s in merged for r in (s.repo, s.adapter.repo if s.adapter else None)]
    repos = [repo for repo in places if repo and is_repo_id(repo)]
    if repos:
        fields["base_model"] = list(dict.fromkeys(repos))
        fields["base_model_relation"] = "merge"
    if facts.license:
        named = {"license_name": facts.license.name, "license_link": facts.license.link}
        fields["license"] = shown(facts.license.id)
        fields |= {key: shown(value) for key, value in named.items() if value}
    # One line for each value: no text in it can look like the end of the front matter.
    text: str = yaml.safe_dump(fields, sort_keys=False, width=math.inf)
    return text


def _merged(manifest: Manifest) -> list[SourceEntry]:
    return [s for s in manifest.sources if s.status == "merged"]


def _heading(facts: CardFacts) -> str:
    models = [s for s in _merged(facts.manifest) if s.role == "model"]
    what = "1 model" if len(models) == 1 else f"{len(models)} models"
    return (
        f"# {cell(facts.title)}\n\n"
        f"A merge of {what}, made by {cell(facts.manifest.tool)}. Method: "
        f"**{cell(facts.manifest.method)}** ({cell(facts.method_title.rstrip('.'))}). "
        f"Weights are stored as {cell(facts.dtype)}."
    )


def _models(facts: CardFacts) -> str:
    sources = facts.manifest.sources
    columns = ["name", "role", "model", "commit or digest"]
    rows = [[s.name, "removed" if s.status == "removed" else s.role, *_address(s)] for s in sources]
    for name, values in (
        ("licence", {s.name: facts.stated.get(s.name, "") for s in sources}),
        ("parameters", {s.name: plain_setting_text(s.parameters) for s in sources}),
        ("weight in the result", {n: _range(*w) for n, w in facts.weights.items()}),
    ):
        if any(values.values()):
            columns.append(name)
            for row, source in zip(rows, sources, strict=True):
                row.append(values.get(source.name, ""))
    text = f"## Models\n\n{table(columns, rows)}"
    if facts.manifest.parameters:
        text += f"\n\nFor all of them: {cell(plain_setting_text(facts.manifest.parameters))}."
    if facts.weights:
        text += (
            "\n\nThe weight in the result is what a model, or what it changed of its base, was "
            "multiplied by; where it differs from tensor to tensor, the smallest and the largest."
        )
    return text


def _address(source: SourceEntry) -> tuple[str, str]:
    """Return where a model is, and the commit or digest; those of its adapter behind a plus."""
    if source.repo and source.commit and source.adapter is None:
        return source.repo, source.commit
    found = _PLACE.findall(source.reference)
    return " + ".join(place for place, _ in found), " + ".join(digest for _, digest in found)


def _range(low: float, high: float) -> str:
    least, most = f"{low:.4g}", f"{high:.4g}"
    return least if least == most else f"{least} to {most}"


def _licence(facts: CardFacts) -> str:
    if facts.license is None:
        return ""
    shown_as = cell(facts.license.id)
    if facts.license.name:
        shown_as += f" ({cell(facts.license.name)})"
    if facts.license_decided:
        said = "as the recipe decides"
        said += ". What the models state stands in the table above" if facts.stated else ""
    else:
        said = "which all of the models state"
    return f"## Licence\n\n{shown_as}, {said}."


def _removed(facts: CardFacts) -> str:
    certificate = facts.manifest.history[-1].certificate
    if certificate is None:
        return ""
    way = usual_way(certificate.mode, summed=facts.manifest.sums is not None)
    words = WAYS["back" if facts.stepped_back else way]
    names = ", ".join(f"**{cell(name)}**" for name in certificate.removed)
    was = "was" if len(certificate.removed) == 1 else "were"
    left = "Nothing is left."
    if certificate.leak is None:
        left = "What is left was not measured."
    elif certificate.leak:
        of_each = ", ".join(
            f"{cell(name)} {value:.3g}" for name, value in certificate.residue.items()
        )
        left = (
            f"The weights are {certificate.leak:.3g} of the merged change away from a merge that "
            "never held what was taken out (leak). The largest weight that its own change still "
            f"has in any tensor: {of_each}."
        )
    return (
        f"## Removed\n\n{names} {was} taken out by `{certificate.mode}`: "
        f"{words.done}: {words.gives}. {left}\n\n"
        f"The certificate stands in `mdm_manifest.json`: made from the merge "
        f"`{certificate.parent}`. This checks it:\n\n{fenced(certificate.check, '')}"
    )


def _ways_out(manifest: Manifest) -> str:
    names = [s.name for s in _merged(manifest) if s.role == "model"]
    title = "## Take a model out again\n\n"
    if not manifest.undo:
        return title + "No model can be taken out of this merge: merge anew without it."
    if len(names) == 1:
        return title + "There is one model, and nothing would be left without it."
    words = "\n".join(_in_words(manifest, mode, names) for mode in manifest.undo)
    lines = [command("mdm-kit", "unmerge", ".", "OUT", "--drop", n) for n in names[:MAX_COMMANDS]]
    lines += [
        command("mdm-kit", "unmerge", ".", "OUT", "--drop", names[-1], "--mode", mode)
        for mode in manifest.undo
        if mode != "rebuild"
    ]
    commands = "\n".join(lines)
    return f"{title}{words}\n\n{_needed(manifest)}\n\n{fenced(commands, 'sh')}"


def _in_words(manifest: Manifest, mode: Mode, names: Sequence[str]) -> str:
    """Return what a mode does, a line for each way there is, and what it reads."""
    by_way: dict[Way, list[str]] = {}
    for name in names:
        by_way.setdefault(way_out(manifest, mode, [name]), []).append(name)
    lines = []
    for way, found in by_way.items():
        of = f" of {', '.join(map(cell, found[:MAX_COMMANDS]))}" if len(by_way) > 1 else ""
        words = WAYS[way]
        lines.append(f"- `{mode}`{of}: {words.done}: {words.gives}; reads {words.reads}")
    return "\n".join(lines)


def _needed(manifest: Manifest) -> str:
    rest = [s for s in _merged(manifest) if s.kept is None]
    if not rest:
        return "Base and models are kept beside the weights: nothing else is needed."
    local = [s.name for s in rest if s.repo is None or (s.adapter and s.adapter.repo is None)]
    text = "All of it is read from where it is"
    if not local:
        return text + ", at the commits above."
    names = ", ".join(cell(name) for name in local)
    return f"{text}; say where folders lie with `--source NAME=FOLDER`: {names}."


def _checks(manifest: Manifest) -> str:
    text = "`mdm_manifest.json` holds the digest of every tensor and file. `verify` reads every "
    lines = ["mdm-kit verify ."]
    if manifest.patched == "exact":
        text += "byte once and compares."
    else:
        text += "byte once and compares; `verify --deep` makes the merge again from its models."
        lines.append("mdm-kit verify --deep .")
    return "## Check it\n\n" + text + "\n\n" + fenced("\n".join(lines), "sh")
