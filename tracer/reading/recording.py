"""A recording that answers questions and renders reports: what ``tracer.open_trace`` returns."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from tracer.analysis.diff import diff
from tracer.analysis.processors.settings import Settings
from tracer.analysis.runs import LOGITS, check_row, chosen_token, step_of
from tracer.analysis.token_search import one_token
from tracer.analysis.whatif import whatif
from tracer.analysis.whatif.beams import BeamSettings, BeamWhatIf, beam_whatif
from tracer.analysis.why import why_in_run
from tracer.reading.answers import DiffAnswer, WhatIfAnswer, WhyAnswer, diff_answer, whatif_answer, why_answer
from tracer.reading.recorded import RecordingRun
from tracer.rerun.model_source import ModelSource
from tracer.rerun.replayer import benefits_from_torch, make_replayer
from tracer.schema.beams import EarlyStopping
from tracer.tracefile import TraceFile, TraceRun

FRAME_HEIGHT = 860
"""Height of the page in a notebook, in pixels."""


class Recording(TraceFile):
    """An open trace with analyses and reports; see :class:`tracer.tracefile.TraceFile` for what it holds.

    Without a run number, a question is about the first run. Answers are frozen dataclasses that read as
    sentences; a notebook shows each as a card, and a recording as its page.
    """

    def _opened(self, number: int) -> TraceRun:
        return RecordingRun(self._database, number, self.tokens)

    def why(
        self,
        step: int,
        token: int | str | None = None,
        *,
        row: int = 0,
        run: int | None = None,
        use_torch: bool = True,
    ) -> WhyAnswer:
        """Why a token was chosen or not: what each processor did to it, and what would have changed that.

        Args:
            step: number of the step, from 1.
            token: its id or its text; by default the one that was chosen.
            row: row of the batch.
            run: number of the run.
            use_torch: run saved logits through transformers' own processors instead of those in NumPy.

        Raises:
            UsageError: there is no such step, row, token or run, or a text may mean several tokens.
            TraceFileError: the trace is damaged.
        """
        reading = self.run(run)
        check_row(reading.header, row)
        if token is None:
            token = chosen_token(step_of(reading, step), row) or 0
        token_id = one_token(token, reading.tokens) if isinstance(token, str) else token
        replayer = make_replayer(wanted=use_torch and LOGITS in reading.tensor_names(step))
        return why_answer(why_in_run(reading, step, token_id, row, replayer=replayer), reading.tokens)

    def whatif(
        self, *, run: int | None = None, use_torch: bool = True, **settings: float | bool
    ) -> WhatIfAnswer:
        """What-if: the tokens that other settings would have chosen, up to the first that differs.

        Args:
            run: number of the run.
            use_torch: repeat the draws; without, the choice of a sampled step is mostly unknown.
            settings: ``temperature``, ``top_k``, ``top_p``, ``min_p``, ``typical_p``, ``epsilon_cutoff``,
                ``eta_cutoff``, ``repetition_penalty``, ``penalty_alpha`` or ``greedy``.

        Raises:
            UsageError: an unknown setting or an impossible value, no such run, or no recorded scores.
            TraceFileError: the trace is damaged.
        """
        reading, changed = self.run(run), Settings.of(settings)
        replayer = make_replayer(wanted=use_torch and benefits_from_torch(reading))
        return whatif_answer(whatif(reading, changed, replayer=replayer), reading.tokens)

    def whatif_beams(
        self,
        *,
        run: int | None = None,
        length_penalty: float | None = None,
        early_stopping: EarlyStopping | None = None,
        num_return_sequences: int | None = None,
    ) -> BeamWhatIf:
        """What-if of a beam search: the hypotheses that other settings would have kept and returned.

        Args:
            run: number of the run.
            length_penalty: exponent of the length.
            early_stopping: when a row of the batch is done: ``True``, ``False`` or ``never``, as text.
            num_return_sequences: how many hypotheses of each row are returned.

        Raises:
            UsageError: the run is no beam search that came to its end, or the setting is not possible.
            UnsupportedError: its hypotheses cannot be worked out again.
            TraceFileError: the trace is damaged.
        """
        settings = BeamSettings(length_penalty, early_stopping, num_return_sequences)
        return beam_whatif(self.run(run), settings)

    def diff(
        self,
        other: TraceFile,
        *,
        run: int | None = None,
        other_run: int | None = None,
        tolerance: float | None = None,
    ) -> DiffAnswer:
        """Where this run and another diverge, and why; this one is run A of the report.

        Args:
            other: the recording of the other run; it may be this one.
            run: number of the run in this recording.
            other_run: number of the run in the other.
            tolerance: largest relative difference that counts as the same; by default what the rounding
                of the dtypes explains.

        Raises:
            UsageError: the runs are of different models, there is no such run, or the tolerance is negative.
            TraceFileError: a trace is damaged, or holds no run.
        """
        runs = self.run(run), other.run(other_run)
        names = (self.path.name, other.path.name)
        if self.path == other.path:
            names = (f"run {runs[0].number}", f"run {runs[1].number}")
        return diff_answer(diff(*runs, tolerance=tolerance), names, *(each.tokens for each in runs))

    def fork(
        self,
        step: int,
        token: int | str | None = None,
        *,
        row: int = 0,
        ban: int | str | Iterable[int | str] = (),
        seed: int | None = None,
        max_new_tokens: int | None = None,
        run: int | None = None,
        out: str | os.PathLike[str] | None = None,
        force: bool = False,
        model: str | None = None,
        trust_remote_code: bool = False,
        **settings: Any,
    ) -> Recording:
        """Repeat a run with its model up to a step, and go on from there another way.

        The steps before are given the recorded tokens, so that cache, positions and random state are what
        they were; then the library's own ``generate()`` goes on. The fork is a run of its own.

        Args:
            step: the first step that is its own, from 1.
            token: the token to choose there, by its id or text; by default it chooses.
            row: row of the batch whose choice is changed.
            ban: a token that it may not choose there, or several.
            seed: of the draws from there on; by default they go on as they did.
            max_new_tokens: tokens from there on; by default up to the run's own limit.
            run: number of the run; by default the first.
            out: a new file; by default the fork is added to this one.
            force: replace an existing ``out``.
            model: folder or hub id of the model, where it is not what the trace names.
            trust_remote_code: whether code that comes with the model may run.
            settings: other generation settings from there on, by their names in ``GenerationConfig``.

        Returns:
            The file that holds the fork, opened again; the fork is its last run.

        Raises:
            UsageError: there is no such step, row or token, or the run cannot be repeated up to there.
            TraceGenerateError: the model cannot be loaded, generating failed, or the file cannot be written.
        """
        from tracer.forking.forking import generate_forks
        from tracer.forking.wish import wished_fork

        tokens = self.run(run).tokens
        choice = {"step": step, "token": token, "row": row, "ban": ban}
        wanted = {**choice, "seed": seed, "max_new_tokens": max_new_tokens, **settings}
        fork = wished_fork(wanted, lambda text: one_token(text, tokens))
        source = ModelSource(model, None, trust_remote_code)
        target = None if out is None else Path(out)
        (made,) = generate_forks(self.path, run, [fork], out=target, force=force, source=source)
        for note in made.notes:
            warnings.warn(note, RuntimeWarning, stacklevel=2)
        return Recording(made.path)

    def to_html(self, *, run: int | None = None, redact: bool = False) -> str:
        """One HTML page that steps through the recording in any browser, offline.

        Args:
            run: only the run of this number; all by default.
            redact: leave out what the run says: texts, token ids and paths; figures stay.

        Returns:
            The page. Token texts of the recording are in it as text only, whatever they hold.

        Raises:
            UsageError: the file has no such run.
            TraceFileError: it holds no run at all, or is damaged.
        """
        import tracer.own_packages  # noqa: F401 - says which file is in the way
        from reports.html import render_page

        chosen = self.runs if run is None else (self.run(run),)
        return render_page(chosen or (self._first,), source=self.path.name, redact=redact)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, which notebooks show."""
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
