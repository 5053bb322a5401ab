"""Completion of the stepper's command lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path

from tracer.analysis.conditions.names import NAMES
from tracer.analysis.processors.settings import Settings
from tracer.halting.callback import Halt
from tracer.stepper.commands import COMMANDS


def completions(text: str, halt: Halt) -> Iterable[str]:
    """Whole lines that complete a line.

    Args:
        text: the line up to the cursor.
        halt: the halt at which it is typed.
    """
    name, space, rest = text.partition(" ")
    if not space:
        return [command.name for command in COMMANDS if command.name.startswith(name)]
    arguments = _ARGUMENTS[name](halt) if name in _ARGUMENTS else ()
    before, _, word = rest.rpartition(" ")
    start = f"{name} {before} " if before else f"{name} "
    return [f"{start}{each}" for each in arguments if each.startswith(word)]


def _variables(halt: Halt) -> Iterable[str]:
    return sorted(name for name in halt.local if not name.startswith("_"))


def _condition_names(_halt: Halt) -> Iterable[str]:
    return sorted(NAMES)


def _processor_settings(halt: Halt) -> Iterable[str]:
    header = halt.live.header
    return sorted({key for each in header.processors for key in each.settings}) if header else ()


def _whatif_settings(_halt: Halt) -> Iterable[str]:
    return [f"{field.name}=" for field in fields(Settings)]


def _trace_files(_halt: Halt) -> Iterable[str]:
    return sorted(str(path) for path in Path().glob("*.trace"))


def _candidate_texts(halt: Halt) -> Iterable[str]:
    candidates = halt.record.candidates if halt.record is not None else ()
    texts = (halt.live.tokens.get(candidate.token) for candidate in candidates)
    return [text.text.strip() for text in texts if text is not None and text.text.strip()]


_ARGUMENTS: Mapping[str, Callable[[Halt], Iterable[str]]] = {
    "p": _variables,
    "u": _condition_names,
    "b": _condition_names,
    "set": _processor_settings,
    "whatif": _whatif_settings,
    "diff": _trace_files,
    "force": _candidate_texts,
    "ban": _candidate_texts,
    "why": _candidate_texts,
}
"""What the argument of a command may be, by the command's name."""
