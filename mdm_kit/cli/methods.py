"""`mdm-kit methods`: which merge methods there are, and what each one wants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mdm_kit.cli import options
from mdm_kit.errors import UsageError

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
        rows = [(m.name, "base + models" if m.needs_base else "models", m.title) for m in chosen]
        table(("method", "works on", "what it does"), rows)


def _explain(method: Method) -> None:
    from mdm_kit.cli.screen import console, table

    console().print(f"{method.name}\n\n{method.doc.strip()}\n")
    table(
        ("parameter", "for", "type", "default", "meaning"),
        [
            (
                s.name,
                "each model" if s.per_model else "the merge",
                s.type.__name__,
                "required" if s.required else _default(s),
                f"{s.help}: {', '.join(s.choices)}" if s.choices else s.help,
            )
            for s in method.params.specs()
        ],
    )
    if method.undo:
        ways = ", ".join(f"unmerge --mode {mode}" for mode in method.undo)
        console().print(f"A model is taken out again by {ways}.")
    else:
        console().print("There is one model, and nothing to take out.")


def _default(spec: ParamSpec) -> str:
    return str(spec.default).lower() if isinstance(spec.default, bool) else str(spec.default)


def _document(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "title": method.title,
        "doc": method.doc.strip(),
        "space": method.space,
        "needs_base": method.needs_base,
        "min_models": method.min_models,
        "max_models": method.max_models,
        "undo": list(method.undo),
        "parameters": [
            {
                "name": s.name,
                "per_model": s.per_model,
                "type": s.type.__name__,
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
