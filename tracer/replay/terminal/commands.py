"""The commands on a recording: the stepper's own, and those that go back."""

from __future__ import annotations

from tracer.errors import UsageError
from tracer.stepper import commands as live
from tracer.stepper.commands import Command, parse_command

_SAME = {command.name: command for command in live.COMMANDS}

COMMANDS = (
    *(_SAME[name] for name in ("n", "s")),
    Command("c", "", "go on to where a condition of --break or b holds, else to the end"),
    _SAME["u"],
    Command("b", "[EXPR]", "alone: back to the stop before; else also halt where a condition holds"),
    Command("sb", "", "back to the first stop of the step before, that is of the token before"),
    Command("rc", "[EXPR]", "back to where a condition holds, or one of --break or b; else to the beginning"),
    Command("g", "N", "go to the first stop of step N"),
    Command("p", "EXPR", "a variable of the library, or a value of the condition language: p probs[0, 28]"),
    *(_SAME[name] for name in ("l", "w", "kv", "top")),
    Command("why", "[TOKEN]", "why a token was chosen in this step, or not: why Large"),
    _SAME["whatif"],
    Command("diff", "PATH", "where this run, up to this step, and another recorded one part"),
    _SAME["h"],
    Command("q", "", "leave"),
)

HELP_END = (
    "Ctrl-D, and the end of a script, leave too.",
    "TOKEN is a text, a text in double quotes with its spaces, or id:N.",
)

_CHANGING = ("force", "ban", "set")


def parse_recorded(line: str) -> tuple[str, str]:
    """Parse a line into name and argument; an empty line means ``n``.

    Args:
        line: the line as typed.

    Raises:
        UsageError: it is no command, its argument is missing, or it takes none.
    """
    name = line.strip().partition(" ")[0]
    if name in _CHANGING:
        raise UsageError(f"{name}: a recording is not changed; a run in progress is, with --step.")
    return parse_command(line, COMMANDS)
