"""`mdm-kit methods`: which merge methods there are, and what each one wants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mdm_kit.cli import options
from mdm_kit.errors import UsageError
from mdm_kit.ledger.ways import WAYS, usual_way

if TYPE_CHECKING:
    from mdm_kit.methods.contract import Method, ParamSpec


@click.command("methods")
@click.argument("name", required=False)
@options.as_json
def command(name: str | None, as_json: bool) -> None:
    """List the merge methods, or explain the one called NAME."""
    from mdm_kit.cli.screen import table
    from mdm_kit.methods.registry import methods
    from mdm_kit.recipe import did_you_mean

    known = methods()
    if name is not None and name not in known:
        raise UsageError(f"there is no merge method {name!r}{did_you_mean(name, known)}")
    chosen = [known[name]] if name else list(known.values())
    if as_json:
        documents = [_document(m) for m in chosen]
        click.echo(json.dumps(documents[0] if name else documents))
    elif name:
        _explain(chosen[0])
    else:
        rows = [(m.name, _works_on(m), m.title) for m in chosen]
        table(("method", "works on", "what it does"), rows)


def _works_on(method: Method) -> str:
    if method.base == "optional":
        return "models, with or without a base"
    return "base + models" if method.needs_base else "models"


def _explain(method: Method) -> None:
    from mdm_kit.authoring.docstrings import papers
    from mdm_kit.authoring.examples import example, meaning
    from mdm_kit.cli.screen import console, facts, table

    say = console()
    say.print(f"{method.name}\n\n{method.doc.strip()}\n", soft_wrap=True)
    rows = [
        (
            s.name,
            "each model" if s.per_model else "the merge",
            _type(s),
            "required" if s.required else _default(s),
            meaning(s),
        )
        for s in method.params.specs()
    ]
    if rows:
        table(("parameter", "for", "type", "default", "meaning"), rows)
    facts(
        [
            *(("paper", address) for address in papers(method.doc)),
            ("takes", _takes(method)),
            ("order of models", "makes no difference" if method.order_free else "counts"),
            ("mergekit", _in_mergekit(method)),
        ]
    )
    say.print(f"\n{_undo_in_words(method)}\n\nA recipe with every parameter:\n", soft_wrap=True)
    say.print(example(method), soft_wrap=True, end="")


def _takes(method: Method) -> str:
    low, high = method.min_models, method.max_models
    number = f"{low} or more" if high is None else f"{low}" if low == high else f"{low} to {high}"
    models = f"{number} model{'' if high == 1 else 's'}"
    if method.base == "optional":
        return f"{models}, with or without a base"
    if method.base == "counted":
        return f"{models}; a base is one more"
    return f"a base and {models}" if method.needs_base else models


def _in_mergekit(method: Method) -> str:
    if method.dialect:
        return "has this method under the same name"
    return "does not have this method"


def _ways(method: Method) -> dict[str, str]:
    """Return what each way to take a model out does, and gives."""
    found = {}
    for mode in method.undo:
        words = WAYS[usual_way(mode, summed=method.keeps_sums)]
        found[str(mode)] = f"{words.done}: {words.gives}"
    if method.keeps_sums and not method.order_free:
        found["rebuild"] += f"; of the model merged last, {WAYS['back'].done}"
    return found


def _undo_in_words(method: Method) -> str:
    if method.undo:
        ways = ", ".join(f"unmerge --mode {mode}" for mode in method.undo)
        words = [f"  {mode:<8}  {said}" for mode, said in _ways(method).items()]
        return "\n".join([f"A model is taken out again by {ways}.", *words])
    if method.max_models == 1:
        return "There is one model, and nothing to take out."
    return "No model can be taken out again: merge anew without it."


def _type(spec: ParamSpec) -> str:
    return "list" if spec.listed else spec.type.__name__


def _default(spec: ParamSpec) -> str:
    if spec.listed:
        return "none"
    return str(spec.default).lower() if isinstance(spec.default, bool) else str(spec.default)


def _document(method: Method) -> dict[str, Any]:
    from mdm_kit.authoring.docstrings import not_for, papers
    from mdm_kit.authoring.examples import example

    return {
        "name": method.name,
        "title": method.title,
        "doc": method.doc.strip(),
        "base": method.base,
        "needs_base": method.needs_base,
        "min_models": method.min_models,
        "max_models": method.max_models,
        "order_free": method.order_free,
        "undo": list(method.undo),
        "undo_in_words": _ways(method),
        "mergekit": method.dialect,
        "papers": papers(method.doc),
        "where_not_to_use": not_for(method.doc),
        "example": example(method),
        "parameters": [
            {
                "name": s.name,
                "per_model": s.per_model,
                "type": _type(s),
                "required": s.required,
                "default": s.default,
                "choices": list(s.choices),
                "minimum": s.minimum,
                "maximum": s.maximum,
                "help": s.help,
            }
            for s in method.params.specs()
        ],
    }
