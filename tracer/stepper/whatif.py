"""Answers beyond the halted run: what-if for its step, and the difference from a recorded run."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from hooks.scores.replay import TorchReplayer
from reports.terminal.halt import render_note
from reports.terminal.questions.whatif import render_whatif
from reports.view.blocks import Note
from reports.view.questions.whatif import whatif_view
from reports.view.text import plain
from tracer.analysis.processors.settings import Settings
from tracer.analysis.processors.settings_in_force import header_in_force
from tracer.analysis.whatif import whatif
from tracer.errors import UsageError
from tracer.halting.callback import Halt
from tracer.halting.run_so_far import alone, run_so_far
from tracer.schema.columns import NO_TOKEN
from tracer.stepper.commands import parse_settings
from tracer.stepper.difference import difference
from tracer.stepper.tokens import token_label


def whatif_in_step(halt: Halt, text: str) -> Iterator[RenderableType]:
    """What-if: the tokens that other settings would choose, from the step's whole logits and random state.

    The step is the one in progress if its processors have run, else the one before.

    Args:
        halt: where the run stands.
        text: the settings as typed.

    Raises:
        UsageError: a setting is impossible, or the processors of no step have run.
    """
    settings = Settings.of(parse_settings(text))
    live = halt.live
    assert live.header is not None
    found = live.choosing_step(halt.local, halt.changes.get("next_token_scores"))
    if found is None:
        raise UsageError("The processors of this step have not run yet; n goes on.")
    step, logits = found
    run = alone(live, header_in_force(live.header, step), step, logits)
    report = whatif(run, settings, replayer=TorchReplayer())
    if _has_not_chosen(halt, step.number):
        tokens = ", ".join(token_label(each.recorded, live) for each in report.steps)
        text = f"Step {step.number} has not chosen yet; as it stands it will choose {tokens}."
        yield render_note(Note(plain(text), "explain"))
    yield render_whatif(whatif_view(report, live.tokens, steps=lambda _: True))


def _has_not_chosen(halt: Halt, number: int) -> bool:
    """Whether a step is the one in progress and its choice has not been made."""
    record = halt.record
    if record is None or record.scores is None or record.number != number:
        return False
    return bool((record.scores.chosen == NO_TOKEN).any())


def diff_so_far(halt: Halt, text: str) -> RenderableType:
    """Where the run so far and a recorded one diverge.

    Args:
        halt: where the run stands.
        text: path of the recording.

    Raises:
        UsageError: the models differ, the recording holds several runs, or no step is over yet.
        TraceFileError: the recording cannot be read.
    """
    with run_so_far(halt.live, halt.record) as ours:
        return difference(ours, text)
