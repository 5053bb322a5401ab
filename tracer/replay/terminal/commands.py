"""The commands on a recording: the stepper's own, and those that go back."""

from __future__ import annotations

from tracer.errors import UsageError
from tracer.stepper import commands as live
from tracer.stepper.commands import Command, parse_command

_SAME = {command.name: command for command in live.COMMANDS}

COMMANDS = (
    *(_SAME[name] for name in ("n", "s")),
    Command("c", "", "go on to where a condition of --break or b holds, else to the end"),
    *(_SAME[name] for name in ("u", "b", "sb", "rc", "g")),
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

_CHANGING = {
    **dict.fromkeys(("force", "ban", "set"), "a run in progress is, with --step"),
    "fork": "trace-generate fork goes on from it another way",
}
"""Commands of a run in progress, and what there is in their place."""


def parse_recorded(line: str) -> tuple[str, str]:
    """Parse a line into name and argument; an empty line means ``n``.

    Args:
        line: the line as typed.

    Raises:
        UsageError: it is no command, its argument is missing, or it takes none.
    """
    name = line.strip().partition(" ")[0]
    if name in _CHANGING:
        raise UsageError(f"{name}: a recording is not changed; {_CHANGING[name]}.")
    return parse_command(line, COMMANDS)
