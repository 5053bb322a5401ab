"""A recording with its questions and reports: what ``tracer.open_trace`` gives."""

from __future__ import annotations

import os
from html import escape

from tracer.analysis.diff import diff
from tracer.analysis.diff.report import DiffReport
from tracer.analysis.processors.settings import Settings
from tracer.analysis.runs import LOGITS, check_row, chosen_token, step_of
from tracer.analysis.token_search import one_token
from tracer.analysis.whatif import whatif
from tracer.analysis.whatif.report import WhatIfReport
from tracer.analysis.why import why_in_run
from tracer.analysis.why.report import WhyReport
from tracer.rerun.repeaters import gains_by_torch, make_replayer
from tracer.tracefile import TraceFile

FRAME_HEIGHT = 860


class Recording(TraceFile):
    """An open trace that can be asked and shown; see :class:`tracer.tracefile.TraceFile` for what it holds.

    Questions without a run number are about its first run. What they answer with are plain frozen values.
    """

    def why(
        self,
        step: int,
        token: int | str | None = None,
        *,
        row: int = 0,
        run: int | None = None,
        use_torch: bool = True,
    ) -> WhyReport:
        """Why a token was chosen or not: its way through the processors, and what would have changed it.

        Args:
            step: number of the step, from 1.
            token: its id or its text; by default the one that was chosen.
            row: row of the batch.
            run: number of the run.
            use_torch: run saved logits through transformers' own processors; else NumPy's stand in.

        Raises:
            UsageError: there is no such step, row, token or run, or a text may mean several tokens.
            TraceFileError: the trace is damaged.
        """
        asked = self.run(run)
        check_row(asked.header, row)
        if token is None:
            token = chosen_token(step_of(asked, step), row) or 0
        number = one_token(token, asked.tokens) if isinstance(token, str) else token
        replayer = make_replayer(wanted=use_torch and LOGITS in asked.tensor_names(step))
        return why_in_run(asked, step, number, row, replayer=replayer)

    def whatif(
        self, *, run: int | None = None, use_torch: bool = True, **settings: float | bool
    ) -> WhatIfReport:
        """What the run would have chosen with other settings, up to its first other token.

        Args:
            run: number of the run.
            use_torch: repeat the draws; else the choice of a sampled step is mostly not known.
            settings: ``temperature``, ``top_k``, ``top_p``, ``min_p``, ``typical_p``, ``epsilon_cutoff``,
                ``eta_cutoff``, ``repetition_penalty`` or ``greedy``.

        Raises:
            UsageError: an unknown setting or an impossible value, no such run, or no recorded scores.
            TraceFileError: the trace is damaged.
        """
        asked, changed = self.run(run), Settings.of(settings)
        replayer = make_replayer(wanted=use_torch and gains_by_torch(asked))
        return whatif(asked, changed, replayer=replayer)

    def diff(
        self,
        other: TraceFile,
        *,
        run: int | None = None,
        other_run: int | None = None,
        tolerance: float | None = None,
    ) -> DiffReport:
        """Where this run and another part, and why; this one is run A of the report.

        Args:
            other: the recording of the other run; it may be this one.
            run: number of the run in this recording.
            other_run: number of the run in the other.
            tolerance: largest relative difference that counts as the same; by default what the dtypes
                explain.

        Raises:
            UsageError: the runs are of different models, there is no such run, or the tolerance is negative.
            TraceFileError: a trace is damaged, or holds no run.
        """
        return diff(self.run(run), other.run(other_run), tolerance=tolerance)

    def to_html(self, *, run: int | None = None, redact: bool = False) -> str:
        """One HTML page that steps through the recording in any browser, offline.

        Args:
            run: only the run of this number; all by default.
            redact: leave out the text of prompts and tokens, token ids and absolute paths.

        Returns:
            The page. It holds token texts of the recording, which may be anything, as text only.

        Raises:
            UsageError: the file has no such run.
            TraceFileError: it holds no run at all, or is damaged.
        """
        from reports.html import render_page

        chosen = self.runs if run is None else (self.run(run),)
        return render_page(chosen or (self._first,), source=self.path.name, redact=redact)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for notebooks."""
        page, style = escape(self.to_html()), f"width: 100%; height: {FRAME_HEIGHT}px; border: 0"
        return f'<iframe sandbox="allow-scripts" title="report" style="{style}" srcdoc="{page}"></iframe>'


def open_trace(path: str | os.PathLike[str]) -> Recording:
    """Open a trace for reading.

    Args:
        path: the trace file.

    Raises:
        TraceFileError: there is no such file, it is no trace, damaged, or of a newer version.
    """
    return Recording(path)
