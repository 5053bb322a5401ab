"""Repeat the draw of a step from its recorded RNG state, and list the tokens that nearly won it.

``torch.multinomial`` with one sample draws an exponential variate ``q`` for every token and takes the token
with the largest ``probability / q`` (``aten/src/ATen/native/Distributions.cpp``, ``multinomial_out``). The
tokens with the next largest ratios are the near misses; they need not be the next in probability. The
variates depend only on the RNG state and the shape ``[B, V]``, so other probabilities can be drawn with the
same variates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tracer.analysis.processors.parsing import parse_processors
from tracer.analysis.processors.processor import Context, PlacedProcessor, ScoreRow
from tracer.analysis.processors.recorded_rows import recorded_rows
from tracer.analysis.processors.softmax import softmax
from tracer.analysis.runs import (
    RecordedRun,
    check_row,
    chosen_token,
    history_of,
    require_choice_by_row,
    saved_logits,
    scores_device,
    scores_dtype,
    step_of,
    whole_scores,
)
from tracer.errors import UnsupportedError, UsageError
from tracer.schema.arrays import F32, I64
from tracer.schema.step import Step, StepHead


@dataclass(frozen=True, eq=False)
class Drawn:
    """A repeated draw.

    Attributes:
        tokens: ``[B]`` the drawn tokens.
        order: ``[B, N]`` ids of the N tokens with the largest ratios, largest first.
        ratios: ``[B, N]`` their ``probability / q``.
        after: RNG state after the draw.
    """

    tokens: I64
    order: I64
    ratios: F32
    after: bytes


class Replayer(Protocol):
    """Repeats processors and draws with torch (:class:`hooks.scores.replay.TorchReplayer`)."""

    def process(
        self, placed: Sequence[PlacedProcessor], context: Context, logits: F32, *, device: str, dtype: str
    ) -> list[F32]:
        """Run one row through transformers' own processors.

        Args:
            placed: processors in order.
            context: the row's ids so far.
            logits: ``[V]`` raw logits.
            device: device on which they were processed.
            dtype: dtype in which they were processed.

        Returns:
            ``[V]`` float32 after each processor.

        Raises:
            UnsupportedError: the device is absent or a processor cannot be rebuilt.
        """

    def draw(self, state: bytes, scores: F32, *, device: str, dtype: str, places: int) -> Drawn:
        """Draw from the softmax of processed scores ``[B, V]`` with an RNG state.

        Raises:
            UnsupportedError: the device is absent, or its generator is another.
        """

    def skip(self, state: bytes, shape: tuple[int, int], *, device: str, dtype: str) -> bytes:
        """The RNG state after a draw from ``[B, V]`` probabilities.

        Raises:
            UnsupportedError: the device is absent, or its generator is another.
        """


class DrawStates:
    """RNG states before the draws of a run: stored whole at some steps, computed from there for the others.

    Args:
        run: the run.
        replayer: repeats draws.
    """

    def __init__(self, run: RecordedRun, replayer: Replayer) -> None:
        self._run = run
        self._replayer = replayer
        self._next = 0
        self._state = b""

    def before(self, number: int) -> bytes:
        """The RNG state before the draw of a step.

        Args:
            number: number of the step.

        Raises:
            UsageError: the step was not sampled or its state was not recorded.
            UnsupportedError: this machine's generator does not give the recorded states.
        """
        head = step_of(self._run, number).head
        start = number if self._next == number else self._keyframe(head)
        state = self._state if self._next == number else _whole(step_of(self._run, start).head)
        for between in range(start, number):
            state = self._after(step_of(self._run, between).head, state)
        self._check(head, state)
        self._next, self._state = number + 1, self._after(head, state)
        return state

    def _keyframe(self, head: StepHead) -> int:
        """Number of the last step up to this one whose state is stored whole, all steps between following."""
        while head.draw is not None and head.draw.state is None and head.draw.follows and head.step > 1:
            head = step_of(self._run, head.step - 1).head
        if head.draw is None or head.draw.state is None:
            raise UsageError(f"the random state of step {head.step} was not recorded: nothing can be drawn")
        return head.step

    def _after(self, head: StepHead, state: bytes) -> bytes:
        shape = (head.ids_before.shape[0], head.vocab_size)
        dtype = scores_dtype(self._run.header, head)
        return self._replayer.skip(state, shape, device=scores_device(head), dtype=dtype)

    @staticmethod
    def _check(head: StepHead, state: bytes) -> None:
        if head.draw is not None and state_digest(state) != head.draw.digest:
            raise UnsupportedError(
                f"the random state of step {head.step} cannot be reached on this machine: "
                "its generator moves in other steps than the one that was recorded"
            )


def state_digest(state: bytes) -> str:
    """BLAKE2b-64 of an RNG state, hex, as in :class:`~tracer.schema.step.Draw`."""
    return hashlib.blake2b(state, digest_size=8).hexdigest()


def _whole(head: StepHead) -> bytes:
    assert head.draw is not None  # looked up as a keyframe
    assert head.draw.state is not None
    return bytes.fromhex(head.draw.state)


@dataclass(frozen=True)
class NearMiss:
    """One token of a repeated draw.

    Attributes:
        token: its id.
        place: 1 for the winner.
        probability: its share of the draw.
        ratio: ``probability / q``; the largest wins.
        behind: the winner's ratio divided by this one; 1 for the winner.
    """

    token: int
    place: int
    probability: float
    ratio: float
    behind: float


@dataclass(frozen=True)
class NearMisses:
    """The winner and the near misses in the draw of one step.

    Attributes:
        step: number of the step.
        row: row of the batch.
        chosen: the recorded token.
        places: tokens in the order of their ratios; fewer than requested where there are fewer candidates.
        reproduced: whether the repeated draw gave the recorded token; if not, the places belong to another
            draw and say nothing about the recorded one.
    """

    step: int
    row: int
    chosen: int
    places: tuple[NearMiss, ...]
    reproduced: bool


def near_misses(
    run: RecordedRun,
    number: int,
    replayer: Replayer,
    *,
    row: int = 0,
    count: int = 3,
    states: DrawStates | None = None,
) -> NearMisses:
    """Repeat the draw of a step.

    Where all candidates are recorded, this needs no saved logits: removed tokens have probability 0 whatever
    their logits were.

    Args:
        run: the run.
        number: number of the step.
        replayer: repeats the draw.
        row: row of the batch.
        count: number of places.
        states: the run's RNG states, to walk through many steps without starting over.

    Raises:
        UsageError: the run was greedy, or what is needed was not recorded.
        UnsupportedError: the draw cannot be repeated on this machine.
    """
    check_row(run.header, row)
    require_choice_by_row(run.header, "The repeated draw")
    step = step_of(run, number)
    chosen = chosen_token(step, row)
    if not run.header.do_sample or chosen is None or step.head.draw is None:
        raise UsageError(f"step {number} has no draw: its tokens were not sampled, or it was not recorded")
    scores = final_scores(run, step, replayer)
    state = (states or DrawStates(run, replayer)).before(number)
    head = step.head
    dtype = scores_dtype(run.header, head)
    drawn = replayer.draw(state, scores, device=scores_device(head), dtype=dtype, places=count)
    shares = softmax(scores[row])
    ratios = drawn.ratios[row].tolist()
    places = tuple(
        NearMiss(token, place, float(shares[token]), ratio, ratios[0] / ratio)
        for place, (token, ratio) in enumerate(zip(drawn.order[row].tolist(), ratios, strict=True), 1)
        if ratio > 0
    )
    return NearMisses(number, row, chosen, places, int(drawn.tokens[row]) == chosen)


def final_scores(run: RecordedRun, step: Step, replayer: Replayer | None = None) -> F32:
    """Scores ``[B, V]`` from which the recorded run chose.

    Taken from the record where it holds every token that was left, else computed from saved logits.

    Args:
        run: the run.
        step: one of its steps.
        replayer: runs transformers' own processors; without it, only recorded scores are used.

    Raises:
        UsageError: neither is possible.
    """
    rows = [final_row_of(run, step, row) for row in range(step.rows)]
    if not all(each.complete for each in rows):
        rows = [
            each if each.complete else _processed(run, step, row, replayer) for row, each in enumerate(rows)
        ]
    return np.stack([each.scores for each in rows])


def final_row_of(run: RecordedRun, step: Step, row: int) -> ScoreRow:
    """The last stage of a row as far as it was recorded."""
    return recorded_rows(
        whole_scores(run.header, step),
        row,
        parse_processors(run.header),
        vocab=step.head.vocab_size,
        cap=run.header.capture.candidates,
        context=context_of(run, step, row),
    )[-1]


def context_of(run: RecordedRun, step: Step, row: int) -> Context:
    """What the processors of a step had besides the scores."""
    history = history_of(run, step.number, step.parent(row))
    return Context(history, scores_device(step.head).startswith("cuda"), row)


def _processed(run: RecordedRun, step: Step, row: int, replayer: Replayer | None) -> ScoreRow:
    logits = saved_logits(run, step.number)
    if logits is None or replayer is None:
        raise UsageError(
            f"more tokens were left in step {step.number} than were recorded; record with --save logits"
        )
    stages = replayer.process(
        parse_processors(run.header),
        context_of(run, step, row),
        logits[row],
        device=scores_device(step.head),
        dtype=scores_dtype(run.header, step.head),
    )
    return ScoreRow(stages[-1] if stages else logits[row])
