"""The commands of the stepper: names, arguments and meanings, and how a line is parsed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracer.errors import UsageError


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: what is typed.
        argument: placeholder of its argument, in brackets if it is optional; empty if there is none.
        meaning: what the help says.
    """

    name: str
    argument: str
    meaning: str

    @property
    def needs_argument(self) -> bool:
        """Whether its argument is required."""
        return bool(self.argument) and not self.argument.startswith("[")


COMMANDS = (
    Command("n", "", "go on to the next stop (Enter alone does the same)"),
    Command("s", "", "go on to the first stop of the next step, that is of the next token"),
    Command("c", "", "go on; halt only where a condition of --break or b holds"),
    Command("u", "EXPR", "go on until a condition holds, once: u p_chosen < 0.3"),
    Command("b", "[EXPR]", "alone: back to the stop before; else also halt where a condition holds"),
    Command("sb", "", "back to the first stop of the step before, that is of the token before"),
    Command("rc", "[EXPR]", "back to where a condition holds, or one of --break or b; else to the beginning"),
    Command("g", "N", "go to the first stop of step N"),
    Command("p", "EXPR", "evaluate in the halted frame: p outputs.logits.shape"),
    Command("l", "[N]", "list the source, N lines around"),
    Command("w", "", "where: the stack"),
    Command("kv", "", "the KV cache"),
    Command("top", "[N]", "the N best tokens (10) by the scores so far"),
    Command("why", "[TOKEN]", "what the processors do to a token, or to the one that was chosen: why Large"),
    Command("whatif", "NAME=VALUE …", "what other settings would choose: whatif temperature=0.5 top_k=5"),
    Command("diff", "PATH", "where this run, as far as it has come, and a recorded one part"),
    Command("force", "TOKEN [row N]", "choose this token in the next choice, in all rows or one"),
    Command("ban", "TOKEN [row N]", "do not choose this token in the next choice"),
    Command("set", "NAME VALUE", "change a setting until the run ends: set temperature 0.9"),
    Command(
        "fork",
        "[NAME=VALUE …]",
        "leave this run, and go on from this step another way: fork token=Large seed=3",
    ),
    Command("h", "", "this list"),
    Command("q", "", "end the run here, its trace closed (exit code 130, as Ctrl-C)"),
)

HELP_END = (
    "Ctrl-D, and the end of a script, go on to the end without halting again.",
    "TOKEN is a text, a text in double quotes with its spaces, or id:N. force, ban and set are recorded, and "
    "every report marks them.",
    "b, sb, rc and g look at what has been; n, s, c and u lead from there to the present stop, and then on. "
    "A run that is left for a fork is kept, and the fork is another run of the same trace. fork takes token, "
    "ban, row, step, seed, max_new_tokens, greedy=true, and any generation setting.",
)

_SWITCHES = {"true": True, "false": False}

_PAIR = re.compile(r'([^\s=]+)=("(?:\\.|[^"\\])*"|[^\s"]\S*)(?=\s|$)\s*')
"""A name and its value; a value in double quotes may hold spaces."""


def parse_command(line: str, commands: Sequence[Command] = COMMANDS) -> tuple[str, str]:
    """Parse a line into name and argument; an empty line means ``n``.

    Args:
        line: the line as typed.
        commands: the commands that there are.

    Raises:
        UsageError: it is no command, its argument is missing, or it takes none.
    """
    text = line.strip()
    if not text:
        return "n", ""
    name, _, argument = text.partition(" ")
    argument = argument.strip()
    by_name = {command.name: command for command in commands}
    command = by_name.get(name)
    if command is None:
        near = difflib.get_close_matches(name, by_name, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"{name[:40]!r} is no command; h lists them, p {name[:40]} would evaluate it.{hint}")
    if command.needs_argument and not argument:
        raise UsageError(f"{name} needs {command.argument}: {command.meaning}.")
    if not command.argument and argument:
        raise UsageError(f"{name} takes nothing after it.")
    return name, argument


def parse_count(text: str, default: int) -> int:
    """Parse a number of lines or tokens.

    Args:
        text: the argument as typed.
        default: the value of an empty text.

    Raises:
        UsageError: it is not a number above 0.
    """
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10_000:
        raise UsageError(f"{text[:40]!r} is no number above 0.")
    return int(text)


def parse_setting(text: str) -> tuple[str, float]:
    """Parse ``NAME VALUE`` or ``NAME=VALUE``.

    Args:
        text: the argument as typed.

    Raises:
        UsageError: it has another form.
    """
    parts = text.replace("=", " ").split()
    if len(parts) != 2:
        raise UsageError("set needs a name and a value: set temperature 0.9.")
    try:
        value = float(parts[1])
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise UsageError(f"set {parts[0]}: {parts[1][:40]!r} is no number.")
    return parts[0], value


def parse_settings(text: str) -> dict[str, float | bool]:
    """Parse ``NAME=VALUE …``.

    Args:
        text: the argument as typed.

    Raises:
        UsageError: it has another form, or a name occurs twice.
    """
    found: dict[str, float | bool] = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        name = name.replace("-", "_")
        try:
            number = _SWITCHES[value.lower()] if name == "greedy" else float(value)
        except (KeyError, ValueError):
            equals = ""
        if not equals or not name:
            raise UsageError(
                f"whatif {part[:40]!r}: expected NAME=VALUE, e.g. temperature=0.5 or greedy=true."
            )
        if name in found:
            raise UsageError(f"whatif names {name} twice.")
        found[name] = number
    return found


def parse_fork(text: str) -> dict[str, Any]:
    """Parse what a fork does otherwise: ``NAME=VALUE …``.

    Args:
        text: the argument as typed.

    Returns:
        Values by name: of ``token`` the text, of ``ban`` all texts, of any other the value.

    Raises:
        UsageError: it has another form, or a name occurs twice.
    """
    found: dict[str, Any] = {}
    place = 0
    while place < len(text):
        pair = _PAIR.match(text, place)
        if pair is None:
            raise UsageError(
                f"fork {text[place:][:40]!r}: expected NAME=VALUE, e.g. token=Large or temperature=0.5."
            )
        place, name, value = pair.end(), pair[1].replace("-", "_"), pair[2]
        if name == "ban":
            found.setdefault(name, []).append(value)
        elif name in found:
            raise UsageError(f"fork names {name} twice.")
        else:
            found[name] = value if name == "token" else _value(value)
    return _with_sampling(found)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or a number or nesting beyond what Python reads
        return {"True": True, "False": False, "None": None}.get(text, text)


def _with_sampling(found: dict[str, Any]) -> dict[str, Any]:
    """Give ``greedy`` the name that it has as a generation setting."""
    if "greedy" not in found:
        return found
    greedy = found.pop("greedy")
    if not isinstance(greedy, bool) or "do_sample" in found:
        raise UsageError("fork greedy is true or false, and excludes do_sample.")
    return {**found, "do_sample": not greedy}


def parse_token(text: str, rows: int) -> tuple[str, int | None]:
    """Parse ``TOKEN`` or ``TOKEN row N``.

    Args:
        text: the argument as typed.
        rows: number of rows of the batch.

    Returns:
        The query for the token, and the row; None for all rows.

    Raises:
        UsageError: there is no such row.
    """
    found = re.fullmatch(r"(.*\S)\s+row\s+(\d+)", text, re.DOTALL)
    if found is None:
        return text, None
    row = int(found[2])
    if row >= rows:
        raise UsageError(f"There is no row {row}; rows are 0 … {rows - 1}.")
    return found[1], row
