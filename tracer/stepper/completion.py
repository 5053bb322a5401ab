"""Completion of the stepper's command lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.analysis.conditions.names import NAMES
from tracer.analysis.processors.settings import Settings
from tracer.stepper.commands import COMMANDS, Command

if TYPE_CHECKING:
    from tracer.halting.callback import Halt


def completions(text: str, halt: Halt) -> Iterable[str]:
    """Whole lines that complete a line.

    Args:
        text: the line up to the cursor.
        halt: the halt at which it is typed.
    """
    return complete(text, COMMANDS, lambda name: _ARGUMENTS[name](halt) if name in _ARGUMENTS else ())


def complete(
    text: str, commands: Sequence[Command], arguments: Callable[[str], Iterable[str]]
) -> Iterable[str]:
    """Whole lines that complete a line.

    Args:
        text: the line up to the cursor.
        commands: the commands that there are.
        arguments: what may follow a command, by its name.
    """
    name, space, rest = text.partition(" ")
    if not space:
        return [command.name for command in commands if command.name.startswith(name)]
    before, _, word = rest.rpartition(" ")
    start = f"{name} {before} " if before else f"{name} "
    return [f"{start}{each}" for each in arguments(name) if each.startswith(word)]


def _variables(halt: Halt) -> Iterable[str]:
    return sorted(name for name in halt.local if not name.startswith("_"))


def condition_names(_halt: object) -> Iterable[str]:
    """Names of the condition language."""
    return sorted(NAMES)


def _processor_settings(halt: Halt) -> Iterable[str]:
    header = halt.live.header
    return sorted({key for each in header.processors for key in each.settings}) if header else ()


def whatif_settings(_halt: object) -> Iterable[str]:
    """Settings that a what-if may change."""
    return [f"{field.name}=" for field in fields(Settings)]


def fork_settings(_halt: object) -> Iterable[str]:
    """What a fork may do otherwise, most usual first."""
    names = (
        "token",
        "ban",
        "row",
        "step",
        "seed",
        "max_new_tokens",
        *(field.name for field in fields(Settings)),
    )
    return [f"{name}=" for name in names]


def trace_files(_halt: object) -> Iterable[str]:
    """Recordings in this folder."""
    return sorted(str(path) for path in Path().glob("*.trace"))


def _candidate_texts(halt: Halt) -> Iterable[str]:
    candidates = halt.record.candidates if halt.record is not None else ()
    texts = (halt.live.tokens.get(candidate.token) for candidate in candidates)
    return [text.text.strip() for text in texts if text is not None and text.text.strip()]


_ARGUMENTS: Mapping[str, Callable[[Halt], Iterable[str]]] = {
    "p": _variables,
    "u": condition_names,
    "b": condition_names,
    "rc": condition_names,
    "set": _processor_settings,
    "whatif": whatif_settings,
    "diff": trace_files,
    "force": _candidate_texts,
    "ban": _candidate_texts,
    "fork": fork_settings,
    "why": _candidate_texts,
}
"""What the argument of a command may be, by the command's name."""
