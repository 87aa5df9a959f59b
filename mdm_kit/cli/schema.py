"""`mdm-kit schema`: the JSON Schema of a recipe, for editors."""

from __future__ import annotations

import json

import click

from mdm_kit.cli import options


@click.command("schema")
@options.as_json
def command(as_json: bool) -> None:
    """Print the JSON Schema of a recipe, with which an editor completes and checks it.

    It is JSON with or without --json, which puts it on one line. Editors with the YAML language
    server take it from a recipe's first line:

    \b
      mdm-kit schema > recipe.schema.json
      # yaml-language-server: $schema=recipe.schema.json
    """
    from mdm_kit.authoring.schema import recipe_schema

    click.echo(json.dumps(recipe_schema(), indent=None if as_json else 2, ensure_ascii=as_json))
