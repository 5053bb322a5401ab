"""Compare the scores and the choice of two rows in one step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tracer.analysis.diff.report import LogitDistance, NumberDifference, RowPair, TokenDifference
from tracer.analysis.diff.tolerance import Tolerance
from tracer.analysis.processors.softmax import log_softmax
from tracer.analysis.runs import RecordedRun, chosen_token, saved_logits
from tracer.library.first_scores import FIRST_SCORES
from tracer.schema.arrays import F32
from tracer.schema.columns import NO_TOKEN, ScoreColumns
from tracer.schema.run import StopName
from tracer.schema.step import Step


def compare_scores(
    a: RecordedRun, b: RecordedRun, step_a: Step, step_b: Step, pair: RowPair, tolerance: Tolerance
) -> Iterator[NumberDifference]:
    """Differences of the raw logits and of the later stages, in order.

    Without saved logits only the tokens that both runs recorded are compared.

    Args:
        a: run A.
        b: run B.
        step_a: step of run A.
        step_b: the same step of run B.
        pair: the rows.
        tolerance: what rounding explains.
    """
    if step_a.scores is None or step_b.scores is None:
        return
    calls = len(step_a.layout.modules) if step_a.layout else 0
    allowed = tolerance.allowed(calls)
    both = _logits(a, b, step_a, step_b, pair)
    columns = step_a.scores, step_b.scores
    names = [info.class_name for info in a.header.processors]
    yield from _differences(
        step_a.number,
        "contrast" if "contrast" in a.header.stops else "next-logits",
        FIRST_SCORES[a.header.loop].one,
        both or _common(*columns, pair, 0),
        pair,
        allowed,
    )
    shared = min(columns[0].scores.shape[0], columns[1].scores.shape[0], len(names) + 1)
    for stage in range(1, shared):
        stop: StopName = (
            "processors" if a.header.processors[stage - 1].list_name == "logits_processor" else "warpers"
        )
        if b.header.processors[stage - 1].class_name != names[stage - 1]:
            return
        what = f"score after {names[stage - 1]}"
        yield from _differences(step_a.number, stop, what, _common(*columns, pair, stage), pair, allowed)
        yield from _counts(step_a.number, stop, names[stage - 1], stage, columns, pair)


def _logits(
    a: RecordedRun, b: RecordedRun, step_a: Step, step_b: Step, pair: RowPair
) -> tuple[F32, F32] | None:
    ours, theirs = saved_logits(a, step_a.number), saved_logits(b, step_b.number)
    return None if ours is None or theirs is None else (ours[pair.a], theirs[pair.b])


def _common(ours: ScoreColumns, theirs: ScoreColumns, pair: RowPair, stage: int) -> tuple[F32, F32]:
    """Scores of the tokens that both recorded and neither had removed."""
    _, left, right = np.intersect1d(ours.tokens[pair.a], theirs.tokens[pair.b], return_indices=True)
    there = ours.tokens[pair.a][left] != NO_TOKEN
    mine = ours.scores[stage, pair.a, left[there]]
    other = theirs.scores[stage, pair.b, right[there]]
    alive = (mine > -np.inf) & (other > -np.inf)
    return mine[alive], other[alive]


def _differences(
    step: int, stop: StopName, what: str, both: tuple[F32, F32], pair: RowPair, allowed: float
) -> Iterator[NumberDifference]:
    ours, theirs = (side.astype(np.float64) for side in both)
    if np.array_equal(ours, theirs, equal_nan=True):
        return
    with np.errstate(invalid="ignore"):
        size = np.where(ours == theirs, 0.0, np.abs(ours - theirs))
    size[np.isnan(ours) & np.isnan(theirs)] = 0.0
    worst = int(np.nan_to_num(size, nan=np.inf).argmax())
    finite = np.concatenate([ours, theirs])
    scale = float(np.abs(finite[np.isfinite(finite)]).max(initial=0.0))
    yield NumberDifference(
        step=step,
        stop=stop,
        module=None,
        quantity=what,
        rows=pair,
        a=float(ours[worst]),
        b=float(theirs[worst]),
        size=float(size[worst]),
        relative=float(size[worst]) / scale if scale else float("inf"),
        scale=scale,
        allowed=allowed,
    )


def _counts(
    step: int,
    stop: StopName,
    name: str,
    stage: int,
    columns: tuple[ScoreColumns, ScoreColumns],
    pair: RowPair,
) -> Iterator[NumberDifference]:
    """A different number of tokens left: never counted as unexplained, since rounding can move a cutoff."""
    ours, theirs = int(columns[0].kept[stage, pair.a]), int(columns[1].kept[stage, pair.b])
    if ours != theirs:
        size = float(abs(ours - theirs))
        scale = float(max(ours, theirs))
        yield NumberDifference(
            step,
            stop,
            None,
            f"tokens left after {name}",
            pair,
            ours,
            theirs,
            size,
            size / scale,
            scale,
            np.inf,
        )


def logit_distance(
    a: RecordedRun, b: RecordedRun, step_a: Step, step_b: Step, pair: RowPair
) -> LogitDistance | None:
    """Divergence of the raw logits; None where one run did not save them."""
    both = _logits(a, b, step_a, step_b, pair)
    if both is None:
        return None
    ours, theirs = log_softmax(both[0]), log_softmax(both[1])
    with np.errstate(invalid="ignore"):
        terms = np.exp(ours) * (ours - theirs)
        gaps = np.abs(both[0].astype(np.float64) - both[1])
    divergence = max(0.0, float(terms[ours > -np.inf].sum()))
    return LogitDistance(step_a.number, pair, divergence, float(np.nanmax(gaps)))


def recorded_gap(step_a: Step, step_b: Step, pair: RowPair) -> float | None:
    """Largest difference of the raw logits that both runs recorded; None where they have none in common.

    Args:
        step_a: step of run A.
        step_b: the same step of run B.
        pair: the rows.
    """
    if step_a.scores is None or step_b.scores is None:
        return None
    ours, theirs = _common(step_a.scores, step_b.scores, pair, 0)
    if not ours.size:
        return None
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def token_difference(a: Step, b: Step, pair: RowPair) -> TokenDifference | None:
    """The difference between the choices of two rows; None where they agree or one is unknown.

    Rows that go on from other rows of the step before have other texts, whatever their tokens are.
    """
    ours, theirs = chosen_token(a, pair.a), chosen_token(b, pair.b)
    if ours is None or theirs is None or a.scores is None or b.scores is None or same_text(a, b, pair):
        return None
    return TokenDifference(
        step=a.number,
        rows=pair,
        token_a=ours,
        token_b=theirs,
        probability_a=float(a.scores.chosen_probability[pair.a]),
        probability_b=float(b.scores.chosen_probability[pair.b]),
        gap_a=_gap(a.scores, pair.a, theirs),
        gap_b=_gap(b.scores, pair.b, ours),
        same_draw=_same_draw(a, b, pair),
    )


def same_text(a: Step, b: Step, pair: RowPair) -> bool:
    """Whether two rows whose texts were the same before a step get the same tokens in it.

    Args:
        a: the step of run A.
        b: the step of run B.
        pair: the rows.
    """
    return same_origin(a, b, pair) and a.appended(pair.a) == b.appended(pair.b)


def same_origin(a: Step, b: Step, pair: RowPair) -> bool:
    """Whether the scores of two rows follow the same text: those of rows that move, or of several tokens.

    Args:
        a: the step of run A.
        b: the step of run B.
        pair: the rows.
    """
    moved = bool(a.parents or b.parents) and a.parent(pair.a) != b.parent(pair.b)
    return not moved and a.appended(pair.a)[:-1] == b.appended(pair.b)[:-1]


def _gap(columns: ScoreColumns, row: int, other: int) -> float | None:
    """Final score of the chosen token minus that of another one; None if that was not recorded."""
    places = np.flatnonzero(columns.tokens[row] == other)
    if not places.size:
        listed = np.any(columns.removed_tokens[:, row] == other)
        return float("inf") if listed else None
    return float(columns.chosen_scores[-1, row]) - float(columns.scores[-1, row, places[0]])


def _same_draw(a: Step, b: Step, pair: RowPair) -> bool | None:
    """Whether both rows drew the same variates: the same RNG state and the same position in the batch.

    A CPU draws row by row; how a GPU assigns variates to rows depends on the size of the batch.
    """
    if a.head.draw is None or b.head.draw is None:
        return None
    same_place = pair.a == pair.b and (a.rows == b.rows or a.head.draw.device == "cpu")
    return a.head.draw.digest == b.head.draw.digest and same_place
