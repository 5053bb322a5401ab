"""The group of all commands: each is imported when it is asked for, and one of them is the default."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import click

from tracer.cli.invocation import Invocation
from tracer.nearest_word import suggestion

COMMAND_NAMES = (
    "run",
    "show",
    "info",
    "verify",
    "export",
    "why",
    "whatif",
    "diff",
    "compare",
    "lens",
    "attention",
    "report",
    "replay",
    "step",
    "fork",
    "tree",
)
"""Each is ``NAME_command`` of the module ``tracer.cli.commands.NAME``."""


class CommandGroup(click.Group):
    """Imports a command when it is asked for.

    Arguments that do not start with a command's name go to the default command: `trace-generate --prompt …`
    is `trace-generate run --prompt …`.

    Attributes:
        default: the default command's name.
    """

    def __init__(self, *args: Any, default: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.default = default
        self.params.append(_debug_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of the help."""
        return sorted(COMMAND_NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        return _command(cmd_name) if cmd_name in COMMAND_NAMES else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named; it takes ``--debug`` too, so that it may stand at any place."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            command = copy.copy(command)
            command.params = [*command.params, _debug_option(hidden=True)]
        return name, command, rest

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default command where none is named; without any argument, print the help."""
        first = next((argument for argument in args if argument != "--debug"), None)
        if first is None:
            click.echo(ctx.get_help())
            ctx.exit()
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if first not in own and first not in COMMAND_NAMES:
            if not first.startswith("-"):
                near = suggestion(first, COMMAND_NAMES) or " --help lists them."
                ctx.fail(f"There is no command {first!r}.{near}")
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the default command's options too: they are what most people come for."""
        options = _command(self.default).params
        records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
        with formatter.section(f"Options of a traced generation ({self.default}, the default)"):
            formatter.write_dl(records)
        super().format_options(ctx, formatter)


def _command(name: str) -> click.Command:
    command = getattr(importlib.import_module(f"tracer.cli.commands.{name}"), f"{name}_command")
    assert isinstance(command, click.Command)
    return command


def _debug_option(*, hidden: bool = False) -> click.Option:
    """``--debug``, which every command takes."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        # Before any other option is looked at, whose error it may be about.
        is_eager=True,
        expose_value=False,
        hidden=hidden,
        callback=_remember_debug,
        help="Show the traceback of an error.",
    )


def _remember_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.obj, Invocation):
        ctx.obj.debug = True
