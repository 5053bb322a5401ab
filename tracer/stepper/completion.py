"""How a line of the stepper may go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from tracer.analysis.conditions.names import NAMES
from tracer.analysis.processors.settings import Settings
from tracer.halting.callback import Halt
from tracer.stepper.answers import words_of
from tracer.stepper.commands import COMMANDS


def completions(text: str, halt: Halt) -> Iterable[str]:
    """Whole lines that a line may become.

    Args:
        text: the line up to the cursor.
        halt: where the run stands.
    """
    name, space, rest = text.partition(" ")
    if not space:
        return [command.name for command in COMMANDS if command.name.startswith(name)]
    before, _, word = rest.rpartition(" ")
    start = f"{name} {before} " if before else f"{name} "
    return [f"{start}{each}" for each in _words(name, halt) if each.startswith(word)]


def _words(name: str, halt: Halt) -> Iterable[str]:
    if name == "p":
        return words_of(halt.local)
    if name in ("u", "b"):
        return sorted(NAMES)
    if name == "set":
        header = halt.live.header
        return sorted({key for each in header.processors for key in each.settings}) if header else ()
    if name == "whatif":
        return [f"{field.name}=" for field in fields(Settings)]
    if name == "diff":
        return sorted(str(path) for path in Path().glob("*.trace"))
    if name in ("force", "ban", "why"):
        record = halt.record
        tokens = [] if record is None else [candidate.token for candidate in record.candidates]
        texts = (halt.live.tokens.get(token) for token in tokens)
        return [text.text.strip() for text in texts if text is not None and text.text.strip()]
    return ()
