"""The end of a run: the answer, the figures, and whether the trace can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.view.blocks import FigureTable, Level, Note
from reports.view.figures import count, duration, plural
from reports.view.run.hypotheses import hypothesis_notes, hypothesis_tables
from reports.view.run.release import release_notes
from reports.view.run.verification import stamp_notes
from reports.view.stops.checks import end_notes
from reports.view.text import plain, plain_lines
from tracer.schema.run import RunEnd, RunHeader, RunStatus
from tracer.schema.stamp import Stamp


@dataclass(frozen=True)
class Answer:
    """What was generated for one row.

    Attributes:
        row: row of the batch.
        text: the generated text, None when there was no tokenizer.
        token_ids: the generated ids, padding included.
    """

    row: int
    text: str | None
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class SummaryView:
    """The end of a run.

    Attributes:
        run: number of the run in the file, from 1.
        status: ``complete``, ``interrupted``, ``failed`` or ``incomplete``.
        answers: one entry a row.
        steps: steps that were recorded.
        generated: tokens generated, all rows, padding of ended rows left out.
        seconds: duration without halts, None when the run has no end.
        path: where the trace is, None when there is none.
        notes: what went wrong, and caveats.
        tables: what the decoding loop has in the end beside the answers.
    """

    run: int
    status: str
    answers: tuple[Answer, ...]
    steps: int
    generated: int
    seconds: float | None
    path: str | None
    notes: tuple[Note, ...]
    tables: tuple[FigureTable, ...] = ()

    @property
    def level(self) -> Level:
        """``error`` where a check, the model or the recording failed, ``warning`` for an interrupted run."""
        if any(note.level == "error" for note in self.notes):
            return "error"
        return "fact" if self.status == RunStatus.COMPLETE.value else "warning"

    @property
    def tokens_per_second(self) -> float | None:
        """Generated tokens a second, all rows together."""
        return self.generated / self.seconds if self.seconds else None


def summary(
    end: RunEnd | None,
    *,
    header: RunHeader | None = None,
    run: int = 1,
    steps: int | None = None,
    generated: int | None = None,
    violations: int = 0,
    errors: int = 0,
    interventions: int = 0,
    gaps: Sequence[Note] = (),
    path: str | None = None,
    stamps: Sequence[Stamp] = (),
) -> SummaryView:
    """Summarise a run.

    Args:
        end: the end record; None when the run has none, so that it is incomplete.
        header: the run's header, to tell the prompt from the answer.
        run: number of the run in the file.
        steps: steps seen, where there is no end record.
        generated: tokens generated, if they were counted; otherwise steps times rows.
        violations: checks that failed.
        errors: capture faults.
        interventions: what the user changed.
        gaps: which checks were not made and what could not be captured.
        path: where the trace is.
        stamps: results of verifications.
    """
    taken = end.steps if end is not None else steps or 0
    beams = None if end is None else end.beams
    return SummaryView(
        run=run,
        status=end.status.value if end is not None else "incomplete",
        answers=_answers(end, header),
        steps=taken,
        generated=taken * _rows(end, header) if generated is None else generated,
        seconds=end.seconds if end is not None else None,
        path=plain(path) if path is not None else None,
        notes=(
            *_trouble(end, violations, errors),
            *(release_notes(header) if header is not None else ()),
            *_remarks(end, interventions),
            *hypothesis_notes(beams),
            *(end_notes(end) if end is not None else ()),
            *gaps,
            *stamp_notes(stamps),
        ),
        tables=hypothesis_tables(beams),
    )


def _rows(end: RunEnd | None, header: RunHeader | None) -> int:
    """Rows of the batch, as far as that is known."""
    if header is not None:
        return len(header.prompt)
    return max(1, len(end.sequences)) if end is not None else 1


def _answers(end: RunEnd | None, header: RunHeader | None) -> tuple[Answer, ...]:
    if end is None:
        return ()
    rows = max(len(end.texts), len(end.sequences))
    return tuple(
        Answer(
            row=row,
            text=plain_lines(end.texts[row]) if row < len(end.texts) else None,
            token_ids=_generated_ids(end.sequences, header, row),
        )
        for row in range(rows)
    )


def _generated_ids(
    sequences: Sequence[tuple[int, ...]], header: RunHeader | None, row: int
) -> tuple[int, ...]:
    if row >= len(sequences):
        return ()
    # All rows of a batch have prompts of one length.
    prompt = len(header.prompt[0].token_ids) if header is not None else 0
    return sequences[row][prompt:]


def _trouble(end: RunEnd | None, violations: int, errors: int) -> tuple[Note, ...]:
    notes = []
    if end is None:
        notes.append(
            Note(
                "This run has no end record: the trace is incomplete. The steps up to here are whole.",
                "error",
            )
        )
    elif end.status is RunStatus.FAILED:
        notes.append(Note(f"The model failed: {plain(end.error or 'unknown error')}", "error"))
    elif end.status is RunStatus.INTERRUPTED:
        why = f" ({plain(end.error)})" if end.error else ""
        notes.append(Note(f"The run was interrupted{why}; the steps up to here are whole.", "warning"))
    if violations:
        notes.append(
            Note(f"{plural(violations, 'check')} did not hold; see the steps marked in red.", "error")
        )
    if errors:
        notes.append(
            Note(f"{plural(errors, 'fault')} in recording: the trace lacks what they concern.", "error")
        )
    return tuple(notes)


def _remarks(end: RunEnd | None, interventions: int) -> tuple[Note, ...]:
    notes = []
    if interventions:
        notes.append(
            Note(f"{plural(interventions, 'change')} made by the user: not the model's own run.", "warning")
        )
    if end is not None and end.ended_by is not None:
        notes.append(Note(f"Ended by a break: {plain(end.ended_by)}", "warning"))
    if end is not None and end.tensors_stopped_at is not None:
        notes.append(
            Note(
                f"Tensors are left out from step {count(end.tensors_stopped_at)} on: the trace had reached "
                "its size limit.",
                "warning",
            )
        )
    if end is not None and end.halted_seconds:
        halted = duration(end.halted_seconds)
        notes.append(Note(f"Halted for {halted}, which no duration here contains.", "fact"))
    if end is not None and end.queue_waits:
        notes.append(
            Note(
                f"Generation waited {plural(end.queue_waits, 'time')} for the writer of the trace, "
                f"{duration(end.queue_wait_seconds)} in all.",
                "warning",
            )
        )
    return tuple(notes)
