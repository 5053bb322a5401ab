"""Runs and steps of an open recording: they know their tokens' texts, and show a card in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

from tracer.errors import TraceFileError
from tracer.schema.choice import Candidate, Choice
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step
from tracer.tracefile import StepSequence, TraceRun
from tracer.tracefile.encoding.packing import PackedStep
from tracer.tracefile.reading.database import Database


class RecordingRun(TraceRun):
    """A run of an open recording."""

    @cached_property
    def steps(self) -> StepSequence:
        """The steps, by index from 0, each read when it is accessed."""
        return RecordedSteps(self._database, self.number, self.header, self.tokens)

    def _repr_html_(self) -> str:
        """The end of the run in a notebook: its answer and its figures."""
        from reports.terminal import render_summary
        from reports.terminal.notebook import as_html
        from reports.view import summary

        view = summary(
            self.end, header=self.header, run=self.number, steps=len(self.steps), stamps=self.stamps
        )
        return as_html(render_summary(view))


class RecordedSteps(StepSequence):
    """The steps of a run of an open recording.

    Args:
        database: where they are.
        run: number of the run.
        header: the run's header.
        tokens: texts of the recording.
    """

    def __init__(
        self, database: Database, run: int, header: RunHeader, tokens: Mapping[int, TokenText]
    ) -> None:
        super().__init__(database, run, header)
        self._tokens = tokens

    def unpack(self, packed: PackedStep, stored: bytes) -> RecordedStep:
        """A step from its stored form."""
        step = super().unpack(packed, stored)
        known = {each.name: getattr(step, each.name) for each in fields(step)}
        return RecordedStep(**known, header=self._header, tokens=self._tokens)


@dataclass(frozen=True, repr=False)
class RecordedStep(Step):
    """A step of an open recording. Copied or sent to another process, it is a plain step.

    Attributes:
        header: the run's header.
        tokens: texts of the recording.
    """

    header: RunHeader | None = field(default=None, compare=False)
    tokens: Mapping[int, TokenText] = field(default_factory=dict, compare=False)

    def __reduce__(self) -> tuple[type[Step], tuple[object, ...]]:
        return Step, tuple(getattr(self, each.name) for each in fields(Step))

    def candidates_of(self, row: int) -> tuple[Candidate, ...]:
        """Recorded tokens with probability > 0 and their texts, most probable first."""
        return tuple(replace(each, text=self._text(each.token)) for each in super().candidates_of(row))

    def choice(self, row: int = 0) -> Choice | None:
        """The token chosen for a row, with its text; None if it was not recorded."""
        choice = super().choice(row)
        return None if choice is None else replace(choice, text=self._text(choice.token))

    def _repr_html_(self) -> str:
        """The step in a notebook: what needs attention, the candidates and the choice."""
        from reports.terminal.halt import render_note
        from reports.terminal.notebook import as_html
        from reports.terminal.stops.card import render_card
        from reports.view.stops.checks import alerts
        from reports.view.stops.step import stop_card

        header = self.header
        if header is None:
            return as_html(repr(self))
        cards = [
            stop_card(header, self, self.tokens, stop, row=row)
            for row in range(self.rows)
            for stop in ("softmax", "choice")
            if stop == "softmax" or row == self.rows - 1
        ]
        notes = [render_note(note) for note in alerts(self, header.modules)]
        return as_html(repr(self), *notes, *map(render_card, cards))

    def _text(self, token: int) -> str | None:
        try:
            known = self.tokens.get(token)
        except TraceFileError:  # the trace was closed, or its texts are damaged: the figures stay
            return None
        return known.text if known is not None and known.spelled else None
