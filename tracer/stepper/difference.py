"""Where a run, as far as it has come, and a recorded one part."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType

from reports.terminal.questions.diff import render_diff
from reports.view.questions.diff import both_texts, diff_view
from tracer.analysis.diff import diff
from tracer.errors import UsageError
from tracer.halting.run_so_far import RunSoFar, up_to
from tracer.messages import shown
from tracer.tracefile import TraceFile


def difference(ours: RunSoFar, text: str) -> RenderableType:
    """Where a run so far and a recorded one diverge.

    Args:
        ours: the run, up to its last step that is over.
        text: path of the recording.

    Raises:
        UsageError: the models differ, the recording holds several runs, or no step is over yet.
        TraceFileError: the recording cannot be read.
    """
    path = Path(text).expanduser()
    with TraceFile(path) as recording:
        if not len(ours.steps):
            raise UsageError("No step is over yet; n goes on.")
        runs = len(recording.runs)
        if runs > 1:
            raise UsageError(f"{shown(path)} holds {runs} runs; what is compared here is a recording of one.")
        theirs = up_to(recording.run(), len(ours.steps))
        report = diff(ours, theirs)
        ids = [token for each in report.tokens for token in (each.token_a, each.token_b)]
        texts = both_texts(ours.tokens, theirs.tokens, ids=ids)
        names = f"this run up to step {ours.steps[-1].number}", str(path)
        return render_diff(diff_view(report, names, texts))
