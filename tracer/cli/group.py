"""A command group with a default: `trace-generate --prompt …` is `trace-generate run --prompt …`."""

from __future__ import annotations

from typing import Any

import click


class DefaultGroup(click.Group):
    """Hands arguments that do not start with a command's name to one command.

    Attributes:
        default: that command's name.
    """

    def __init__(self, *args: Any, default: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default command where none is named."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        first = next((argument for argument in args if argument not in own), None)
        if (
            first is not None
            and first not in self.commands
            and not (set(args) & {"-h", "--help", "--version"})
        ):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the default command's options too: they are what most people come for."""
        command = self.commands[self.default]
        records = [record for option in command.params if (record := option.get_help_record(ctx)) is not None]
        with formatter.section(f"Options of a traced generation ({self.default}, the default)"):
            formatter.write_dl(records)
        super().format_options(ctx, formatter)
