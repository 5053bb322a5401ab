"""A step in one line a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.view.blocks import Note
from reports.view.stops.checks import alerts
from reports.view.tokens import TokenView, sequence_views, token_view
from tracer.schema.run import ModuleInfo, TokenText
from tracer.schema.step import Step


@dataclass(frozen=True)
class RowLine:
    """What a step chose for one row.

    Attributes:
        row: row of the batch.
        token: the chosen token.
        probability: its probability.
        rank: its rank after all processors, from 1.
        runner_up: the most probable other candidate, None if there was none.
        runner_up_probability: its probability.
        candidates: tokens with probability > 0.
        entropy: of the distribution chosen from, in bits.
        padding: the row had ended before.
        parent: the row that it continues; itself where rows stay.
        accepted: proposals that the step appended before the token.
    """

    row: int
    token: TokenView
    probability: float
    rank: int
    runner_up: TokenView | None
    runner_up_probability: float
    candidates: int
    entropy: float
    padding: bool
    parent: int
    accepted: tuple[TokenView, ...] = ()


@dataclass(frozen=True)
class StepLine:
    """A step in short.

    Attributes:
        number: number of the step, from 1.
        rows: one entry a row; empty when the scores were not recorded.
        cache_length: slots of the KV cache after the step.
        seconds: duration on the host.
        alerts: what needs attention.
    """

    number: int
    rows: tuple[RowLine, ...]
    cache_length: int
    seconds: float
    alerts: tuple[Note, ...] = ()


def step_line(
    step: Step,
    tokens: Mapping[int, TokenText],
    modules: Sequence[ModuleInfo] = (),
    before: Sequence[bytes] = (),
) -> StepLine:
    """Summarise a step.

    Args:
        step: the step.
        tokens: the token texts that are known.
        modules: all modules of the run, to name those of violations.
        before: bytes of an unfinished character before the step's choice, a row each.
    """
    rows = range(step.rows) if step.scores is not None else ()
    return StepLine(
        number=step.number,
        rows=tuple(_row(step, tokens, row, before[row] if row < len(before) else b"") for row in rows),
        cache_length=step.head.cache_after.length,
        seconds=step.head.seconds,
        alerts=alerts(step, modules),
    )


def _row(step: Step, tokens: Mapping[int, TokenText], row: int, before: bytes) -> RowLine:
    choice, scores = step.choice(row), step.scores
    assert choice is not None
    assert scores is not None
    second = next((item for item in step.candidates_of(row) if item.token != choice.token), None)
    return RowLine(
        row=row,
        token=sequence_views(step.appended(row), tokens, before)[-1],
        probability=choice.probability,
        rank=choice.rank,
        runner_up=token_view(second.token, tokens) if second else None,
        runner_up_probability=second.probability if second else 0.0,
        candidates=int(scores.candidates[row]),
        entropy=float(scores.entropy[-1, row]),
        padding=choice.padding,
        parent=step.parent(row),
        accepted=sequence_views(step.appended(row)[:-1], tokens, before),
    )
