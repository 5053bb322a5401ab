"""How else it could have gone: other settings for the step, and another run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType

from hooks.scores.replay import TorchReplayer
from reports.terminal.halt import render_note
from reports.terminal.questions.diff import render_diff
from reports.terminal.questions.whatif import render_whatif
from reports.view.blocks import Note
from reports.view.questions.diff import both_texts, diff_view
from reports.view.questions.whatif import whatif_view
from reports.view.text import plain
from tracer.analysis.diff import diff
from tracer.analysis.processors.settings import Settings
from tracer.analysis.processors.settings_in_force import header_in_force
from tracer.analysis.whatif import whatif
from tracer.errors import UsageError
from tracer.halting.callback import Halt
from tracer.halting.run_so_far import alone, run_so_far, up_to
from tracer.schema.step import NO_TOKEN
from tracer.stepper.commands import parse_settings
from tracer.stepper.tokens import named
from tracer.tracefile import TraceFile


def other_settings(halt: Halt, text: str) -> Iterator[RenderableType]:
    """What the step would choose with other settings, from its whole logits and its random state.

    It is the step in progress if its processors have run, else the one before.

    Args:
        halt: where the run stands.
        text: the settings as they were typed.

    Raises:
        UsageError: a setting that makes no sense, or no step whose processors have run.
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
    if _is_to_choose(halt, step.number):
        tokens = ", ".join(named(each.recorded, live) for each in report.steps)
        text = f"Step {step.number} has not chosen yet; as it stands it will choose {tokens}."
        yield render_note(Note(plain(text), "explain"))
    yield render_whatif(whatif_view(report, live.tokens, steps=lambda _: True))


def _is_to_choose(halt: Halt, number: int) -> bool:
    """Whether a step is the one in progress and its choice is not made."""
    record = halt.record
    if record is None or record.scores is None or record.number != number:
        return False
    return bool((record.scores.chosen == NO_TOKEN).any())


def other_run(halt: Halt, text: str) -> RenderableType:
    """Where the run so far and a recorded one part.

    Args:
        halt: where the run stands.
        text: path of the recording.

    Raises:
        UsageError: the runs are of different models, the recording holds several, or nothing is over yet.
        TraceFileError: it cannot be read.
    """
    path = Path(text).expanduser()
    with TraceFile(path) as recording, run_so_far(halt.live, halt.record) as ours:
        if not len(ours.steps):
            raise UsageError("No step is over yet; n goes on.")
        runs = len(recording.runs)
        if runs > 1:
            raise UsageError(f"{path} holds {runs} runs; what is compared here is a recording of one.")
        theirs = up_to(recording.run(), len(ours.steps))
        report = diff(ours, theirs)
        ids = [token for each in report.tokens for token in (each.token_a, each.token_b)]
        texts = both_texts(ours.tokens, theirs.tokens, ids=ids)
        names = f"this run up to step {ours.steps[-1].number}", str(path)
        return render_diff(diff_view(report, names, texts))
