"""The page of a recording: its runs, step by step."""

from __future__ import annotations

from collections.abc import Sequence

from reports.html.redaction import Aliases, RedactedRun
from reports.html.sections.collector import Run
from reports.html.sections.page_sections import page_sections
from reports.html.shell import PROGRAM, render_shell
from reports.view.text import plain
from tracer.tracefile import TraceRun

ENTRY = "recording/main.js"


def render_page(runs: Sequence[TraceRun], *, source: str, redact: bool = False) -> str:
    """A page that shows runs, in one self-contained file.

    Args:
        runs: the runs, at least one.
        source: what the trace is called; only its last part is shown.
        redact: leave out the text of prompts and tokens, token ids and absolute paths.
    """
    numbers = Aliases()
    shown: Sequence[Run] = [RedactedRun(run, numbers) for run in runs] if redact else runs
    sections = page_sections(shown, source=source, program=PROGRAM, redacted=redact)
    return render_shell(sections, title=plain(source, 120), skip_to="step", entry=ENTRY)
