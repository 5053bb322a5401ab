"""The page of a recording: its runs, step by step."""

from __future__ import annotations

from collections.abc import Sequence

from reports.html.sections.page_sections import page_sections
from reports.html.shell import PROGRAM, render_shell
from reports.recorded_run import Run
from reports.redaction import redacted_runs
from reports.view.text import plain

ENTRY = "recording/main.js"


def render_page(runs: Sequence[Run], *, source: str, redact: bool = False) -> str:
    """A page that shows runs, in one self-contained file.

    Args:
        runs: the runs, at least one.
        source: what the trace is called; only its last part is shown.
        redact: leave out what the run says: texts, token ids and paths; figures stay.
    """
    shown: Sequence[Run] = redacted_runs(runs) if redact else runs
    sections = page_sections(shown, source=source, program=PROGRAM, redacted=redact)
    return render_shell(sections, title=plain(source, 120), skip_to="step", entry=ENTRY)
