"""One step: a card for each of its stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reports.view.blocks import Note
from reports.view.card import Block, StopCard
from reports.view.figures import plural
from reports.view.stops.assisted import candidates, crop, strategy
from reports.view.stops.beams import beam_scores, beams, log_softmax, of_parent, reorder
from reports.view.stops.changed_variables import mark_changes
from reports.view.stops.checks import alerts, stop_notes
from reports.view.stops.context import Context
from reports.view.stops.contrast import contrast
from reports.view.stops.contrastive import candidates_call, prefill, repeat, select, top_k
from reports.view.stops.forward import forward_result, layers, model_call, next_logits
from reports.view.stops.scores import choice, processors, softmax, warpers
from reports.view.stops.step_end import append, stopping, update
from reports.view.text import plain
from tracer.schema.run import Anchor, LoopName, RunHeader, StopName, TokenText
from tracer.schema.step import Step

_STOPS: dict[StopName, tuple[str, Callable[[Context], Iterator[Block]]]] = {
    "prefill": ("prefill", prefill),
    "candidates": ("candidates", candidates),
    "model-call": ("prepare inputs", model_call),
    "layers": ("layers", layers),
    "forward-result": ("forward result", forward_result),
    "next-logits": ("next-token logits", next_logits),
    "contrast": ("contrast of layers", contrast),
    "log-softmax": ("log-probabilities", log_softmax),
    "processors": ("logits processors", processors),
    "warpers": ("logits warpers", warpers),
    "beam-scores": ("scores of the beams", beam_scores),
    "softmax": ("softmax", softmax),
    "top-k": ("candidates", top_k),
    "repeat": ("repeat the cache", repeat),
    "choice": ("choice", choice),
    "beams": ("beams", beams),
    "select": ("select from the cache", select),
    "append": ("append", append),
    "crop": ("crop the cache", crop),
    "strategy": ("next candidates", strategy),
    "update": ("update kwargs", update),
    "reorder": ("reorder the cache", reorder),
    "stopping": ("stopping", stopping),
}


_OF_LOOP: dict[tuple[LoopName, StopName], Callable[[Context], Iterator[Block]]] = {
    ("_contrastive_search", "model-call"): candidates_call,
}
"""Cards that a loop has in place of those of all others."""


@dataclass(frozen=True)
class StepView:
    """One step of a run, seen for one row of the batch.

    Attributes:
        run: number of the run in the file, from 1.
        number: number of the step, from 1.
        phase: ``prefill`` or ``decode``.
        new_tokens: tokens of each row that the model reads in this step.
        row: the row that is shown in full.
        rows: rows of the batch.
        cards: one card a stop.
        alerts: everything that needs attention; each is also on its card.
        seconds: duration on the host.
    """

    run: int
    number: int
    phase: str
    new_tokens: int
    row: int
    rows: int
    cards: tuple[StopCard, ...]
    alerts: tuple[Note, ...]
    seconds: float

    def card(self, stop: StopName) -> StopCard:
        """The card of a stop.

        Args:
            stop: its name.
        """
        return next(card for card in self.cards if card.stop == stop)

    @property
    def summary(self) -> str:
        """What kind of step it is, in one line."""
        tokens = plural(self.new_tokens, "new token")
        if self.rows == 1:
            return f"{self.phase}, {tokens}"
        return f"{self.phase}, {tokens} in each of {self.rows} rows, row {self.row} in full"


def step_view(
    header: RunHeader,
    step: Step,
    tokens: Mapping[int, TokenText],
    previous: Step | None = None,
    *,
    row: int = 0,
    before: tuple[bytes, ...] = (),
) -> StepView:
    """Build the cards of a step.

    Args:
        header: the run's header.
        step: the step.
        tokens: the token texts that are known.
        previous: the step before; with it, variables that changed are marked.
        row: the row of the batch to show in full.
        before: bytes of an unfinished character before the step's choice, a row each.
    """
    context = Context(header, step, tokens, row, before)
    stops = header.stops[1:]
    cards = tuple(_card(context, stop) for stop in stops)
    if previous is not None:
        earlier = Context(header, previous, tokens, row)
        cards = mark_changes(cards, tuple(_card(earlier, stop) for stop in stops))
    inputs = step.head.first_inputs
    return StepView(
        run=step.head.run,
        number=step.number,
        phase=step.head.phase,
        new_tokens=inputs.sequence_length - inputs.new_start,
        row=row,
        rows=step.rows,
        cards=cards,
        alerts=alerts(step, header.modules),
        seconds=step.head.seconds,
    )


def stop_card(
    header: RunHeader,
    step: Step,
    tokens: Mapping[int, TokenText],
    stop: StopName,
    *,
    row: int = 0,
    before: tuple[bytes, ...] = (),
) -> StopCard:
    """Build the card of one stop alone.

    Args:
        header: the run's header.
        step: the step.
        tokens: the token texts that are known.
        stop: the stop, any but the run header.
        row: the row of the batch to show in full.
        before: bytes of an unfinished character before the step's choice, a row each.
    """
    return _card(Context(header, step, tokens, row, before), stop)


def stop_title(stop: StopName) -> str:
    """A stop in words.

    Args:
        stop: the stop, any but the run header.
    """
    return _STOPS[stop][0]


def safe_anchor(anchor: Anchor | None) -> Anchor | None:
    """An anchor with its texts made safe to print; its path is left as it is, for links.

    Args:
        anchor: the anchor, None where there is none.
    """
    if anchor is None:
        return None
    return anchor.model_copy(
        update={
            "file": plain(anchor.file),
            "text": plain(anchor.text),
            "excerpt": tuple(plain(line.replace("\t", "    ")) for line in anchor.excerpt),
        }
    )


_OF_PARENT: frozenset[StopName] = frozenset({"log-softmax", "processors", "warpers", "softmax"})
"""Stops whose figures are those of the row that a row continues."""


def _skipped(header: RunHeader, number: int) -> tuple[StopName, ...]:
    """Stops that a step passes by."""
    if header.do_sample:
        return ()
    if header.ranks:
        return ("prefill",) if number > 1 else ()
    return ("warpers",) if not header.rows_move else ("warpers", "softmax")


def _card(context: Context, stop: StopName) -> StopCard:
    title, build = _STOPS[stop]
    build = _OF_LOOP.get((context.header.loop, stop), build)
    header, failure = context.header, context.step.head.failure
    blocks: tuple[Block, ...]
    if failure is not None and header.number(failure.stop) < header.number(stop):
        blocks = (Note(f"Not reached: the run failed at {stop_title(failure.stop)}.", "fact"),)
    else:
        note = of_parent(context) if stop in _OF_PARENT else None
        own = (*build(context), *stop_notes(context.step, stop, header))
        blocks = own if note is None else (note, *own)
    return StopCard(
        stop=stop,
        number=header.number(stop),
        title=title,
        anchor=safe_anchor(header.anchor(stop, context.step.head.phase)),
        blocks=blocks,
        skipped=stop in _skipped(header, context.step.number),
    )
