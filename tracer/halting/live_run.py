"""The run in progress, as a stop handler sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy.typing as npt

from hooks.caught_step import CaughtStep
from hooks.loop.course import TokenChange
from hooks.loop.generation_watch import GenerationWatch
from hooks.loop.traced_run import OpenRunSink, RunSink
from reports.view import StopCard
from reports.view.stops.step import stop_card
from reports.view.tokens import unfinished
from tracer.analysis.runs import require_choice_by_row
from tracer.errors import UsageError
from tracer.halting.live_records import LiveRecords
from tracer.halting.run_in_progress import Present
from tracer.schema.columns import NO_TOKEN, ScoreColumns
from tracer.schema.run import RunEnd, RunHeader, StopName, TokenText
from tracer.schema.step import Step
from tracer.tracefile import SavedTensor

_NO_LOCALS: Mapping[str, Any] = MappingProxyType({})


class StopHandler(Protocol):
    """Halts a run at its stops. All methods are called in the thread that generates."""

    def begin(self, live: LiveRun) -> None:
        """A run starts; its header is known, its first step has not begun."""

    def between_steps(self) -> None:
        """A step is over, the next one has not begun."""

    def end(self) -> None:
        """The run is over, also by an exception; whatever the handler installed has to be undone."""


class LiveRun:
    """The run in progress, seen from the thread that generates.

    It is a sink between the hooks and the sink that records the run, and passes everything on unchanged.
    Records of a step in progress are made only when somebody asks for them.

    Args:
        sink: the sink that records the run.
        tokenizer: the model's tokenizer, None to show ids only.
        stop_handler: called when a run begins, after each step, and when it ends.
        flush: waits until everything that went to the sink is recorded.
        path: the trace that is being written.
        beside: gives a stop handler for a run beside one that is in progress in another thread; None if such
            a run is recorded and not halted.

    Attributes:
        header: header of the run in progress, None between runs.
        not_halted: runs that were recorded and not halted, since another one was in progress.
        ending: end record of the run that is ending, with its texts; None while it goes on.
        flush: waits until every step that is over is recorded and its listeners were called.
        path: the trace that is being written.
    """

    def __init__(
        self,
        sink: RunSink,
        tokenizer: Any | None,
        stop_handler: StopHandler,
        flush: Callable[[], None],
        path: Path,
        beside: Callable[[], StopHandler] | None = None,
    ) -> None:
        self.header: RunHeader | None = None
        self.not_halted = 0
        self._beside = beside
        self._tokenizer = tokenizer
        self._thread: int | None = None
        self._claim = threading.Lock()
        self.ending: RunEnd | None = None
        self._sink = sink
        self._stop_handler = stop_handler
        self.flush = flush
        self.path = path
        self._records = LiveRecords(tokenizer)
        self._watch: GenerationWatch | None = None
        self._run: OpenRunSink | None = None
        self._shown: tuple[int, frozenset[StopName]] = (0, frozenset())

    def follow(self, watch: GenerationWatch) -> None:
        """Show the runs of a watch.

        Args:
            watch: the watch that has this object as its sink.
        """
        self._watch = watch

    @property
    def tokens(self) -> Mapping[int, TokenText]:
        """Texts of the tokens that were mentioned so far."""
        return self._records.tokens

    @property
    def step(self) -> int:
        """Number of the step in progress, from 1; 0 before the first."""
        run = self._watch.run if self._watch is not None else None
        return run.number if run is not None else 0

    @property
    def first_own_step(self) -> int:
        """The first step whose tokens are not given: 1, or the step of a fork."""
        fork = None if self.header is None else self.header.fork
        return 1 if fork is None else fork.step

    def come_to(self, stop: StopName) -> int | None:
        """The step that a stop belongs to whose line is about to run; a step may begin with its processors.

        Args:
            stop: the stop.

        Returns:
            The number of the step; None where the line runs for a forward pass whose result is not that of
            the step: one over the prompt, behind which it has its own, or one of several of its own.
        """
        run = self._watch.run if self._watch is not None else None
        if run is None:
            return 0
        if stop == "forward-result" and run.in_other_pass:
            return None
        if stop == "processors":
            run.begin_with_scores()
        return run.number

    def standing_still(self) -> AbstractContextManager[object]:
        """A context in which the run is halted: its clock stands still."""
        run = self._watch.run if self._watch is not None else None
        return nullcontext() if run is None else run.clock

    @property
    def number(self) -> int:
        """Number of the run in the trace, from 1."""
        return self._records.run

    def look_up(self, texts: Iterable[str]) -> None:
        """Learn which tokens have these texts, alone or after a space; they are in :attr:`tokens` then.

        Args:
            texts: names of tokens as people write them.
        """
        self._records.look_up(texts)

    def learn(self, token: int) -> None:
        """Learn the text of a token; it is in :attr:`tokens` then.

        Args:
            token: its id.
        """
        self._records.learn([token])

    def history(self, row: int, length: int) -> tuple[int, ...]:
        """The first ids of a row, padding included.

        Args:
            row: row of the batch.
            length: how many.
        """
        run = self._watch.run if self._watch is not None else None
        ids = run.input_ids if run is not None else None
        return () if ids is None else tuple(ids[row, :length].tolist())

    def change_choice(self, change: TokenChange, scores: Any | None = None) -> Any | None:
        """Force or ban a token in the next choice; the step's record says so.

        Args:
            change: what to do.
            scores: ``next_token_scores`` of the halted frame where the processors of this step have run and
                its choice is not made, else None.

        Returns:
            The scores to choose from instead, if there were any.
        """
        run = self._watch.run if self._watch is not None else None
        return None if run is None else run.change_choice(change, scores)

    def change_setting(self, name: str, value: float) -> str:
        """Change a setting of a processor until the run ends; each step's record says so.

        Args:
            name: the setting, e.g. ``temperature``.
            value: its new value.

        Returns:
            The setting with its new value.

        Raises:
            UsageError: no processor of this run has such a setting, or it refuses the value.
        """
        run = self._watch.run if self._watch is not None else None
        if run is None:
            raise UsageError("No run is in progress, so there is nothing to change.")
        return run.change_setting(name, value)

    def step_so_far(self, local: Mapping[str, Any] = _NO_LOCALS) -> Step | None:
        """The record of the step in progress as far as it has come; nothing of it goes into the trace.

        Args:
            local: locals of the library frame that stands still.

        Returns:
            The record, with ``NO_TOKEN`` as the choice while none is made; None before the first step.
        """
        caught = self._caught(local)
        return self._built(caught) if caught is not None else None

    def present(self, local: Mapping[str, Any] = _NO_LOCALS) -> Present | None:
        """The step in progress with what it has saved (see :meth:`step_so_far`)."""
        step, run = self.step_so_far(local), self._watch.run if self._watch is not None else None
        if step is None or run is None:
            return None
        return Present(step, {name: SavedTensor(*values) for name, values in run.peek_saved().items()})

    def step_before(self) -> Step | None:
        """The record of the last step that is over, None in the first."""
        return self._built(self._last) if self._last is not None else None

    def choosing_step(
        self, local: Mapping[str, Any], scores: Any | None = None
    ) -> tuple[Step, npt.NDArray[Any]] | None:
        """The last step whose processors have run, its choice made as it is about to be.

        Args:
            local: locals of the library frame that stands still.
            scores: ``next_token_scores`` that the user has put in place of those in ``local``.

        Returns:
            Its record, with the whole random state, and its raw logits ``[batch, vocab]``; None if there is
            no such step.
        """
        assert self.header is not None
        require_choice_by_row(self.header, "What a step is about to choose")
        now = self._caught(local)
        if scores is None:
            scores = local.get("next_token_scores")
        found = None if now is None else self._records.chosen(now, self.header, scores)
        if found is None and self._last is not None:
            found = self._records.chosen(self._last, self.header, None)
        return found

    def cards(self, local: Mapping[str, Any] = _NO_LOCALS, *, row: int = 0) -> tuple[StopCard, ...]:
        """Cards of the stops that have become known since they were last asked for, in order.

        The rest of the step before comes first, if cards of it were asked for.

        Args:
            local: locals of the library frame that stands still.
            row: row of the batch to show in full.
        """
        cards: list[StopCard] = []
        number, _ = self._shown
        if self._last is not None and self._last.number == number:
            cards += self._new_cards(self._last, row, over=True)
        caught = self._caught(local)
        if caught is not None and caught is not self._last:
            cards += self._new_cards(caught, row, over=False)
        return tuple(cards)

    def begin(self, header: RunHeader, decoder: int) -> OpenRunSink:
        """A run starts; one beside another that is in progress is halted by a handler of its own."""
        with self._claim:
            run = self._sink.begin(header, decoder)
            alone = self._thread is None
            if alone:
                self._thread = threading.get_ident()
        if alone:
            self._begin(run, header, decoder)
            return self
        if self._beside is None:
            self.not_halted += 1
            return run
        other = LiveRun(self._sink, self._tokenizer, self._beside(), self.flush, self.path)
        other._watch, other._thread = self._watch, threading.get_ident()
        other._begin(run, header, decoder)
        return other

    def _begin(self, run: OpenRunSink, header: RunHeader, decoder: int) -> None:
        self._run = run
        self._records.begin(header, decoder, run.number)
        self.header, self._shown = header, (0, frozenset())
        self._stop_handler.begin(self)

    def put(self, caught: CaughtStep) -> bool:
        """A step is over."""
        assert self._run is not None
        self._records.over(caught)
        ends = self._run.put(caught)
        self._stop_handler.between_steps()
        return ends

    def lost(self, fault: Exception) -> None:
        """A run could not be recorded at all."""
        if self._thread == threading.get_ident():
            self._stop_handler.end()
            self.header = self._thread = None
        self._sink.lost(fault)

    def end(self, end: RunEnd) -> None:
        """The run is over."""
        run, self._run = self._run, None
        assert run is not None
        try:
            self.ending = self._with_texts(end)
            self._stop_handler.end()
        finally:
            self.header = self.ending = self._thread = None
            run.end(end)

    def _with_texts(self, end: RunEnd) -> RunEnd:
        prompt = 0 if self.header is None else len(self.header.prompt[0].token_ids)
        texts = tuple(self._records.text(row[prompt:]) for row in end.sequences)
        return end.model_copy(update={"texts": texts if any(texts) else ()})

    def _caught(self, local: Mapping[str, Any]) -> CaughtStep | None:
        """The step in progress; between two steps the one before."""
        run = self._watch.run if self._watch is not None else None
        return (run.peek(local) if run is not None else None) or self._last

    @property
    def _last(self) -> CaughtStep | None:
        return self._records.last

    def _built(self, caught: CaughtStep) -> Step:
        assert self.header is not None
        return self._records.built(caught, self.header)

    def _new_cards(self, caught: CaughtStep, row: int, *, over: bool) -> list[StopCard]:
        assert self.header is not None
        number, shown = self._shown
        if number != caught.number:
            shown = frozenset()
        step = self._built(caught)
        stops = self.header.stops[1:]
        there = set(stops) if over else _known(step, self.header)
        new = [stop for stop in stops if stop in there and stop not in shown]
        self._shown = caught.number, shown.union(new)
        before = self._split_before(step)
        return [stop_card(self.header, step, self.tokens, stop, row=row, before=before) for stop in new]

    def _split_before(self, step: Step) -> tuple[bytes, ...]:
        """Bytes of a character that what comes before a step's choice leaves unfinished, a row each."""
        length = step.head.ids_before.shape[-1]
        return tuple(
            unfinished(self.history(step.parent(row), length), self.tokens) for row in range(step.rows)
        )


def _known(step: Step, header: RunHeader) -> set[StopName]:
    """Stops of a step in progress whose variables are there, and those of every stop before."""
    if "candidates" in header.stops:
        return _known_by_decision(step, header)
    if "top-k" in header.stops:
        return _known_by_ranking(step, header)
    known: set[StopName] = {"model-call"}
    if step.head.forward is not None:
        known |= {"layers", "forward-result"}
        # Where the processors begin with other scores, the logits are there when the model has returned them.
        if header.loop != "_sample" and step.head.forward_seconds:
            known.add("next-logits")
    if step.scores is not None:
        known |= _known_by_scores(step.scores, header)
    if header.rows_move and step.head.beams is None:
        known.discard("beam-scores")  # they come with what is decided by them
    if step.head.update is not None:
        known |= {"update", "reorder"}
    # Logits are there before the update, and where that comes first their card waits for its turn.
    return set(takewhile(known.__contains__, header.stops[1:]))


def _known_by_decision(step: Step, header: RunHeader) -> set[StopName]:
    """Stops of a step that begins with proposals, most of them once it is known how many are accepted.

    The figures of its scores are those of the last token that it appends, and the proposals come with what
    became of them.
    """
    known: set[StopName] = {"model-call"}
    if step.head.forward is not None:
        known |= {"layers", "forward-result"}
    if step.head.assisted is not None:
        known |= {stop for stop in header.stops[1:] if stop not in ("update", "stopping")}
        known |= {"update"} if step.head.update is not None else set()
    return known


def _known_by_ranking(step: Step, header: RunHeader) -> set[StopName]:
    """Stops of a step that begins with its processors, and ranks candidates behind its forward pass."""
    head = step.head
    prompt_read = head.step > 1 or head.prompt_pass is not None
    known: set[StopName] = {"prefill"} if prompt_read else set()
    if step.scores is not None:
        known |= _known_by_scores(step.scores, header)
    if prompt_read and head.contrastive is not None:
        known |= {"repeat", "model-call"}
    if prompt_read and head.forward is not None:
        known |= {"layers", "forward-result"}
    if "choice" in known:
        known.add("select")
    if head.update is not None:
        known.add("update")
    return set(takewhile(known.__contains__, header.stops[1:]))


def _known_by_scores(scores: ScoreColumns, header: RunHeader) -> set[StopName]:
    """Stops of a step in progress that its scores are enough for."""
    known: set[StopName] = {"next-logits", "contrast", "log-softmax"}
    passed = len(scores.scores) - 1
    if passed >= sum(1 for each in header.processors if each.list_name == "logits_processor"):
        known.add("processors")
    if passed >= len(header.processors):
        known |= {"warpers", "beam-scores", "softmax", "top-k"}
    if (scores.chosen != NO_TOKEN).all():
        known |= {"choice", "beams", "append"}
        # Where the criteria are asked before the beams are chosen, their answers are there with these.
        known |= {"stopping"} if header.stops[-1] != "stopping" else set()
    return known
