"""The plain rows that a step adds to a trace, for queries in SQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from tracer.schema.columns import NO_TOKEN, ScoreColumns
from tracer.schema.step import Step, StepHead

SqlValue: TypeAlias = "int | float | str | None"
Row: TypeAlias = tuple[SqlValue, ...]


def plain_rows(step: Step) -> dict[str, list[Row]]:
    """Rows by table name, in the table's column order and sorted by its key.

    NaN becomes None, since SQLite stores it as NULL.
    """
    rows: dict[str, list[Row]] = {
        "choice": [],
        "stage": [],
        "violation": list(_violations(step.head)),
        "capture_error": [
            (step.head.run, step.head.step, number, error.stop, error.message)
            for number, error in enumerate(step.head.errors)
        ],
    }
    if step.scores is not None:
        rows["choice"] = list(_choices(step.head, step.scores))
        rows["stage"] = list(_stages(step.head, step.scores))
    return rows


def step_columns(head: StepHead) -> Row:
    """The plain columns of the table ``step``: seconds, forward seconds, sequence length, cache length."""
    return (
        _real(head.seconds),
        _real(head.forward_seconds),
        head.inputs.sequence_length,
        head.cache_after.length,
    )


def _violations(head: StepHead) -> Iterator[Row]:
    for number, found in enumerate(head.violations):
        yield head.run, head.step, number, found.check, found.message, found.row, found.module, found.layer


def _choices(head: StepHead, scores: ScoreColumns) -> Iterator[Row]:
    chosen = scores.chosen.tolist()
    columns = zip(
        chosen,
        scores.chosen_probability.tolist(),
        scores.chosen_rank[-1].tolist(),
        scores.entropy[-1].tolist(),
        scores.candidates.tolist(),
        scores.chosen_scores[0].tolist(),
        scores.finished.tolist(),
        strict=True,
    )
    for row, (token, probability, rank, entropy, candidates, raw, finished) in enumerate(columns):
        if token == NO_TOKEN:
            continue  # the run failed before it chose
        runner_up, runner_up_probability = _runner_up(scores, row, token)
        yield (
            head.run,
            head.step,
            row,
            token,
            _real(probability),
            rank,
            _real(entropy),
            candidates,
            _real(raw),
            runner_up,
            runner_up_probability,
            int(finished),
        )


def _runner_up(scores: ScoreColumns, row: int, chosen: int) -> tuple[int | None, float | None]:
    """The most probable token that was not chosen; tokens are in the order of their probability."""
    for place in range(min(2, scores.tokens.shape[1])):
        token, probability = int(scores.tokens[row, place]), float(scores.probabilities[row, place])
        if token not in (chosen, NO_TOKEN) and probability > 0:
            return token, probability
    return None, None


def _stages(head: StepHead, scores: ScoreColumns) -> Iterator[Row]:
    kept, changed, removed = scores.kept.tolist(), scores.changed.tolist(), scores.removed.tolist()
    masses, entropies = scores.mass_removed.tolist(), scores.entropy.tolist()
    for row in range(scores.chosen.size):
        for stage in range(len(kept)):
            yield (
                head.run,
                head.step,
                row,
                stage,
                kept[stage][row],
                changed[stage][row],
                removed[stage][row],
                _real(masses[stage][row]),
                _real(entropies[stage][row]),
            )


def _real(value: float) -> float | None:
    return value if value == value else None
