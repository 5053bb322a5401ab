"""Stepped runs of a tiny model, their commands from a script."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import batch, generate, tiny_model
from tracer import open_trace, trace
from tracer.halting.stops import ALL_STEPS, plan_stops
from tracer.replay.terminal.past import PastOfRun
from tracer.schema.step import Step
from tracer.stepper.lines import PipeLines
from tracer.stepper.stepper import Stepper


@dataclass(frozen=True)
class Session:
    """What a stepped run left behind.

    Attributes:
        text: what was printed.
        sequences: the ids, None if the run was ended.
        steps: the recorded steps.
        logits: raw logits of each step as ``generate()`` gave them.
    """

    text: str
    sequences: torch.Tensor | None
    steps: tuple[Step, ...]
    logits: tuple[torch.Tensor, ...] = ()

    def after(self, command: str) -> str:
        """What was printed behind a command, up to the next prompt."""
        rest = self.text.split(f") {command}\n", 1)[1]
        lines = rest.splitlines()
        end = next((i for i, line in enumerate(lines) if line.startswith("(")), len(lines))
        return "\n".join(lines[:end])

    @property
    def exchanges(self) -> list[tuple[str, str, str]]:
        """Prompt, command and answer of each command, in order."""
        return exchanges(self.text)


def exchanges(text: str) -> list[tuple[str, str, str]]:
    """Prompt, command and answer of each command of a session, in order."""
    parts = re.split(r"^(\([a-z-]+ \d[^)]*\)) (.*)\n", text, flags=re.MULTILINE)
    return [(parts[i], parts[i + 1], parts[i + 2]) for i in range(1, len(parts) - 2, 3)]


def stepped(
    folder: Path,
    *commands: str,
    stops: str | None = None,
    steps: str | None = None,
    breaks: tuple[str, ...] = (),
    rows: int = 1,
    processors: Any = None,
    tokenizer: Any = None,
    save: tuple[str, ...] = (),
    **mode: Any,
) -> Session:
    """Run the tiny model with these commands; the end of them is the end of input."""
    target = io.StringIO()
    console = Console(file=target, width=100, highlight=False)
    plan = plan_stops(stops, steps, breaks, default_steps=ALL_STEPS)
    stepper = Stepper(
        plan,
        PipeLines(io.StringIO("".join(f"{line}\n" for line in commands)), console),
        console,
        PastOfRun,
    )
    model, inputs = tiny_model(), batch(rows)
    arguments = {"logits_processor": processors} if processors is not None else {}
    path = folder / "run.trace"
    output = None
    with (
        contextlib.suppress(KeyboardInterrupt),
        trace(
            model,
            tokenizer or tiny_tokenizer(),
            path,
            capture="tensors" if save else "stats",
            save=save,
            halt=stepper,
            force=True,
        ),
    ):
        output = generate(model, inputs, **arguments, **mode)
    assert not stepper.faults
    with open_trace(path) as recording:
        return Session(
            target.getvalue(),
            None if output is None else output.sequences,
            tuple(recording.steps),
            () if output is None else tuple(output.logits or ()),
        )


def untouched(rows: int = 1, **mode: Any) -> torch.Tensor:
    """The ids of the same run without a trace."""
    sequences: torch.Tensor = generate(tiny_model(), batch(rows), **mode).sequences
    return sequences
