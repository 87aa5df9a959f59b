"""`mdm-kit`: finds the command, turns errors into one clear message and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from io import StringIO, TextIOWrapper

import click

from mdm_kit.errors import MdmError
from mdm_kit.secrets import redacted

COMMANDS = {
    "plan": "mdm_kit.cli.plan",
    "merge": "mdm_kit.cli.merge",
    "add": "mdm_kit.cli.add",
    "unmerge": "mdm_kit.cli.unmerge",
    "extract": "mdm_kit.cli.extract",
    "verify": "mdm_kit.cli.verify",
    "push": "mdm_kit.cli.push",
    "inspect": "mdm_kit.cli.inspect",
    "diff": "mdm_kit.cli.diff",
    "extract-lora": "mdm_kit.cli.extract_lora",
    "methods": "mdm_kit.cli.methods",
    "init": "mdm_kit.cli.init",
    "schema": "mdm_kit.cli.schema",
    "demo": "mdm_kit.cli.demo",
}
DEBUG_VARIABLE = "MDM_KIT_DEBUG"


class _Commands(click.Group):
    """Imports a command's file only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)  # noqa: S101
        return command


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from mdm_kit.versions import tool

        click.echo(tool())
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version,
    help="Show the version and exit.",
)  # fmt: skip
def group() -> None:
    """Merge fine-tuned models from a recipe: planned from headers, streamed, verifiable.

    Results go to stdout, talk and progress to stderr. Exit codes: 0 done, 1 internal error,
    2 recipe or usage, 3 models do not fit together, 4 integrity, 5 model, Hub or login,
    6 no room or locked, 130 interrupted (run the same command to go on).
    """


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; prints errors, raises nothing."""
    try:
        result = group.main(list(arguments), prog_name="mdm-kit", standalone_mode=False)
    except click.ClickException as error:
        if "--json" in arguments:
            _print_json(redacted(error.format_message()), error.exit_code)
        said = StringIO()
        error.show(said)
        click.echo(redacted(said.getvalue()), err=True, nl=False)
        return error.exit_code
    except MdmError as error:
        return _failed(arguments, str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _failed(arguments, "interrupted; run the same command again to go on", 130)
    except BrokenPipeError:
        # The reader of our output went away; what is left to flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 -- the last one to hear of it
        if os.environ.get(DEBUG_VARIABLE):
            click.echo(redacted(traceback.format_exc()), err=True)
        return _failed(
            arguments,
            f"internal error: {type(error).__name__}: {error}. This is a bug in mdm_kit; please "
            f"report it with the traceback that {DEBUG_VARIABLE}=1 prints",
            1,
        )
    return result if isinstance(result, int) else 0


def _failed(arguments: Sequence[str], message: str, exit_code: int) -> int:
    message = redacted(message)
    if "--json" in arguments:
        _print_json(message, exit_code)
    click.echo(message if "\n" in message else f"error: {message}", err=True)
    return exit_code


def _print_json(message: str, exit_code: int) -> None:
    click.echo(json.dumps({"error": message, "exit_code": exit_code}))


def run() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that knows no Σ gets its escape
            stream.reconfigure(errors="backslashreplace")
    # The Hub client's own bars would run across ours.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    sys.exit(main(sys.argv[1:]))
