"""The group of all commands: each is imported when it is asked for, and one of them is the default."""

from __future__ import annotations

import importlib
from typing import Any

import click

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

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of the help."""
        return sorted(COMMAND_NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        return _command(cmd_name) if cmd_name in COMMAND_NAMES else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default command where none is named."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        first = next((argument for argument in args if argument not in own), None)
        names_command = first is None or first in COMMAND_NAMES
        if not names_command and not (set(args) & {"-h", "--help", "--version"}):
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
