"""The commands that change the run: ``force``, ``ban`` and ``set``. The trace records each change."""

from __future__ import annotations

from typing import Literal

from hooks.loop.course import TokenChange
from tracer.analysis.runs import require_choice_by_row
from tracer.halting.callback import Halt
from tracer.schema.run import StopName
from tracer.stepper.commands import parse_setting
from tracer.stepper.tokens import token_and_row, token_label

_BEFORE_CHOICE: tuple[StopName, ...] = ("softmax", "choice")
"""Stops at which the processors have run and the choice has not been made."""


def change_choice(kind: Literal["force", "ban"], halt: Halt, argument: str) -> str:
    """Force or ban a token in the next choice.

    Args:
        kind: which of both.
        halt: the halt; where the choice of its step is about to be made, its frame gets other scores.
        argument: ``TOKEN`` or ``TOKEN row N``, as typed.

    Returns:
        What was changed, and in which step.

    Raises:
        UsageError: no token matches, several do, there is no such row, or rows do not choose by themselves.
    """
    live = halt.live
    if live.header is not None:
        require_choice_by_row(live.header, f"To {kind} a token")
    token, row = token_and_row(argument, live)
    place = "" if row is None else f" row {row}"
    change = TokenChange(kind, token, row, f"{token_label(token, live)}{place}")
    scores = None
    if halt.stop in _BEFORE_CHOICE:
        scores = halt.changes.get("next_token_scores", halt.local["next_token_scores"])
    changed = live.change_choice(change, scores)
    if changed is not None:
        halt.changes["next_token_scores"] = changed
        if halt.stop == "choice" and live.header is not None and live.header.do_sample:
            halt.changes["probs"] = changed.softmax(dim=-1)
    step = halt.step + 1 if _chosen(halt) else halt.step
    return f"{kind} {change.detail}: in the choice of step {step}"


def _chosen(halt: Halt) -> bool:
    """Whether the choice of the step has been made."""
    header = halt.live.header
    if halt.stop is None or header is None:
        return True
    return header.number(halt.stop) > header.number("choice")


def change_setting(halt: Halt, argument: str) -> str:
    """Change a setting of a processor until the run ends.

    Args:
        halt: the halt.
        argument: ``NAME VALUE``, as typed.

    Returns:
        What was changed.

    Raises:
        UsageError: no processor has such a setting, or it refuses the value.
    """
    name, value = parse_setting(argument)
    return f"set {halt.live.change_setting(name, value)}: until the run ends"
