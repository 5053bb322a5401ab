"""Beam search of newer releases: tensors in place of a scorer, and methods of the model that decide.

Nothing is replaced there: the methods' arguments and results are seen. They come to the host when the last of
them has returned, which ends the step and is where the loop itself waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel

from hooks.caught_step import CaughtStep, Checked, LoopRecord
from hooks.decoding.beam_readings import Decided, Floats, SeenTensors
from hooks.decoding.beam_rules import Ledger, RowRules, fired, goes_on_as_ruled, rows_of, step_record
from hooks.decoding.caught_beams import adds_up, checked
from hooks.decoding.loop_watch import LoopWatch, OnePosition, ScoreObserver
from hooks.decoding.returned import Closing, Way, check_returned
from hooks.faults import is_ours
from hooks.instance_class import untouched_class
from hooks.method_layer import MethodLayer
from hooks.modules.module_watch import Observer
from hooks.printing import printed_error
from hooks.tensors import Spec, clone, to_host
from tracer.analysis.hypotheses import Rules
from tracer.errors import UnsupportedError
from tracer.library.loop import Loop
from tracer.library.loops.beam_search import CONTINUATIONS, FINISHED, IMPROVABLE, RUNNING, UNFINISHED
from tracer.schema.beams import BeamEnd
from tracer.schema.faults import CaptureError


class BeamMethodsWatch(OnePosition):
    """Follows the beams of one run.

    Args:
        arguments: of ``_beam_search``.
        keep_logits: whether something asks for the model's own logits.
    """

    def __init__(self, arguments: Mapping[str, Any], *, keep_logits: bool) -> None:
        config = arguments["generation_config"]
        beams = int(config.num_beams)
        self._keep_logits = keep_logits
        self._sampling = bool(config.do_sample)
        self._returned = int(config.num_return_sequences)
        self._rules = Rules(beams, float(config.length_penalty), config.early_stopping, config.max_length)
        self._rows = 0
        self._running: Floats | None = None
        self._ledgers: tuple[Ledger, ...] = ()
        self._capture: ScoreObserver | None = None
        self._seen = SeenTensors()
        self._caught: CaughtDecisions | None = None
        self._logits: torch.Tensor | None = None
        self._fault: str | None = None
        self._over = False
        self._way, self._lost = Way(), False
        self._handlers: dict[str, Callable[[Mapping[str, Any], Any], Any]] = {
            CONTINUATIONS: lambda given, found: self._seen.chose(given, found, sampling=self._sampling),
            RUNNING: lambda _, found: self._seen.go_on(found),
            FINISHED: lambda given, found: self._seen.kept(given, found),
            IMPROVABLE: lambda _, found: self._seen.improvable(found),
        }

    def observers(self) -> Mapping[nn.Module, Observer]:
        """None: all that is particular passes through methods of the model."""
        return {}

    def observer(self, capture: ScoreObserver) -> ScoreObserver:
        """Keeps back what the criteria say, which are asked about more continuations than there are rows."""
        self._capture = capture
        return _Continuations(self, capture)

    def begin(self) -> None:
        """The forward pass of a step starts."""
        self._seen, self._caught, self._fault, self._logits = SeenTensors(), None, None, None

    def forwarded(self, outputs: Any) -> None:
        """It is over."""
        self._rows = len(outputs.logits)
        if self._keep_logits:
            self._logits = clone(outputs.logits[:, -1, :])

    def first_scores(self, local: Mapping[str, Any]) -> torch.Tensor | None:
        """The log-probabilities of the logits, as the loop computes them next."""
        logits = getattr(local.get("model_outputs"), "logits", None)
        return None if logits is None else logits[:, -1, :].float().log_softmax(dim=-1)

    def helper_returned(self, method: str, arguments: Mapping[str, Any], result: Any) -> bool:
        """A method in which the loop decides has returned.

        Args:
            method: its name.
            arguments: by name.
            result: what it returned.

        Returns:
            Whether the user ends the run here.
        """
        if method == UNFINISHED:
            return self._step_over(result)
        self._guarded(partial(self._handlers[method], arguments, result))
        return False

    def end_early(self, others: Sequence[LoopWatch], result: Any) -> Any:
        """The user ends the run: as where a stopping criterion does, beams that are open may be returned.

        Args:
            others: watches of other traces of the run.
            result: whether there is another step.
        """
        kept, loops_own = list[Any](), self._seen.hypotheses
        if bool(result):
            self._guarded(lambda: kept.extend(self._open_ended()))
        for watch in (self, *others):
            if isinstance(watch, BeamMethodsWatch):
                watch._guarded(partial(watch._end_with, kept))
        for old, new in zip(loops_own if kept else (), kept, strict=True):
            old.copy_(new)
        return torch.zeros_like(result)

    def put(self, step: CaughtStep) -> None:
        """Put what was decided into the step."""
        if self._fault is not None:
            step.errors.append(CaptureError(stop="beams", message=self._fault))
        # A run that stands still may have decided, while its step is not over.
        caught = self._caught or (self._decide() if self._seen.decided else None)
        if caught is None:
            return
        step.logits = self._logits
        scores = step.tensors.scores
        if scores is not None and len(scores) == step.stages:
            tokens, parents = (self._seen.values[name].flatten().long() for name in ("tokens", "parents"))
            step.tensors.loop = {"log_probabilities": scores[-1][parents, tokens]}
        decided, device = caught.decided, step.ids_spec.device
        step.loop, step.parents = caught, tuple(decided.next_parents.ravel().tolist())
        step.tensors.chosen = torch.from_numpy(decided.next_tokens.ravel()).to(device)
        step.next_ids_spec = Spec(torch.Size((step.rows, decided.length + 1)), torch.int64, device)
        step.tensors.done = torch.tensor(caught.done(), device=device)
        for number, answers in decided.criteria.items():
            step.tensors.fired[number] = torch.tensor(fired(decided, answers), device=device)

    def ending(self) -> BeamEnd | None:
        """The end of the search; None where the run did not come to it."""
        if not self._over:
            return None
        return BeamEnd(
            beams=self._rules.beams,
            length_penalty=self._rules.length_penalty,
            early_stopping=self._rules.setting,
            rows=tuple(ledger.outcome(self._returned) for ledger in self._ledgers),
        )

    def returned(self, output: Any, prompt: torch.Tensor) -> Checked:
        """The check of what the loop has returned.

        Args:
            output: what it has returned.
            prompt: ``[rows, length]`` that it began with.
        """
        return check_returned(output, prompt, None if self._lost else self.ending(), self._way, Closing())

    def criterion(self, number: int, done: Any) -> None:
        """A stopping criterion has answered about all continuations."""
        self._guarded(lambda: self._seen.criteria.update({number: _whole(done, self._seen)}))

    def criteria_done(self, done: Any) -> None:
        """All of them have."""
        self._guarded(lambda: self._seen.answered(done))

    def _step_over(self, unfinished: torch.Tensor) -> bool:
        """The last method has returned; this says whether the user ends the run here."""
        self._guarded(lambda: self._settle(unfinished))
        self._over = not bool(unfinished)
        found = self._caught
        assert self._capture is not None
        if found is not None:
            self._capture.on_appended(self._seen.sequences)
        done = torch.tensor([False] * self._rows if found is None else found.done())
        return self._capture.on_stopping_done(done) is not done

    def _open_ended(self) -> tuple[torch.Tensor, ...]:
        """The hypotheses that are kept where the beams that are open end too."""
        seen = self._seen
        sequences, scores, indices = seen.beams
        every = torch.ones_like(scores, dtype=torch.bool)
        kept: tuple[torch.Tensor, ...] = GenerationMixin._update_finished_beams(
            GenerationMixin,  # of which it needs nothing but functions
            **dict(zip(_HYPOTHESES, seen.hypotheses, strict=True)),
            topk_running_sequences=sequences,
            topk_log_probs=scores,
            topk_running_beam_indices=indices,
            is_early_stop_heuristic_unsatisfied=seen.values["improvable"],
            next_token_hits_stopping_criteria=every,
            top_num_beam_mask=every[0],
            num_beams=self._rules.beams,
            cur_len=seen.length,
            decoder_prompt_len=seen.prompt,
            length_penalty=self._rules.length_penalty,
            early_stopping=self._rules.early_stopping,
        )
        return kept

    def _end_with(self, kept: Sequence[torch.Tensor]) -> None:
        """These hypotheses are kept in the end; none where there is no more to end."""
        if kept:
            self._seen.keep((*kept,))
            decided = self._seen.on_host(self._running)
            self._ledgers = tuple(each.with_open(decided, row) for row, each in enumerate(self._ledgers))
            self._over = True

    def _settle(self, unfinished: torch.Tensor) -> None:
        self._seen.unfinished(unfinished)
        self._caught = self._decide()
        decided = self._caught.decided
        self._running = decided.next_scores
        self._way.add(
            tuple(decided.next_parents.ravel().tolist()),
            tuple(decided.next_tokens.ravel().tolist()),
            decided.rows_without_order(),
        )
        self._ledgers = tuple(row.after for row in self._caught.rows)

    def _decide(self) -> CaughtDecisions:
        return CaughtDecisions(rows_of(self._rules, self._seen.on_host(self._running), self._ledgers))

    def _guarded(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:
            if not is_ours(error):
                raise
            self._fault, self._lost = printed_error(error), True


@dataclass(frozen=True)
class CaughtDecisions:
    """What the loop decided in a step.

    Attributes:
        rows: the rows of the batch.
    """

    rows: tuple[RowRules, ...]

    @property
    def decided(self) -> Decided:
        """What was decided about all of them."""
        return self.rows[0].decided

    def done(self) -> list[bool]:
        """Of each row after the step, whether a stopping criterion ends it or its search is over."""
        ended = fired(self.decided, self.decided.ended)
        return [found or self.rows[row // self.decided.beams].done for row, found in enumerate(ended)]

    def describe(self, step: CaughtStep) -> LoopRecord:
        """The record, and whether it is what the rules of the search lead to.

        Args:
            step: the step.
        """
        found = step.tensors.loop.get("log_probabilities")
        record = step_record(self.rows, None if found is None else to_host(found))
        goes_on = goes_on_as_ruled(self.rows)
        return checked(record, [goes_on and row.holds() for row in self.rows], adds_up)


def require_own_helpers(loop: Loop, model: PreTrainedModel) -> None:
    """Refuse what cannot be followed: a model that decides in methods of its own, whose rules are not known.

    Args:
        loop: the loop.
        model: the model that generates.

    Raises:
        UnsupportedError: naming the method.
    """
    kind, own = untouched_class(type(model)), vars(model)
    for name in loop.helpers:
        # A layer of ours is there while another run of the model is in progress.
        replaced = name in own and type(own[name]) is not MethodLayer
        if replaced or getattr(kind, name) is not getattr(GenerationMixin, name):
            raise UnsupportedError(
                f"Beam search with a method {name} of one's own is not traced; only the library's is. "
                "Generate outside of the trace."
            )


_HYPOTHESES = ("sequences", "beam_scores", "beam_indices", "is_sent_finished")
"""Arguments of ``_update_finished_beams`` that are what it has returned before."""


def _whole(done: Any, seen: SeenTensors) -> torch.Tensor:
    """The answer of a criterion, which may be one for all."""
    if isinstance(done, torch.Tensor):
        return clone(done)
    return torch.full((seen.values["scores"].numel(),), bool(done))


class _Continuations:
    """Takes what the criteria say of all continuations; the scores are those of any other loop."""

    def __init__(self, watch: BeamMethodsWatch, capture: ScoreObserver) -> None:
        self._watch = watch
        self._capture = capture

    def on_scores(self, stage: int, scores: torch.Tensor) -> None:
        """Scores of the rows."""
        self._capture.on_scores(stage, scores)

    def on_scores_done(self, scores: torch.Tensor) -> torch.Tensor:
        """The last processor has run."""
        return self._capture.on_scores_done(scores)

    def on_appended(self, input_ids: torch.Tensor) -> None:
        """The continuations, which are no rows yet."""

    def on_criterion(self, index: int, done: Any) -> None:
        """The answer of one criterion."""
        self._watch.criterion(index, done)

    def on_stopping_done(self, done: torch.Tensor) -> torch.Tensor:
        """Their common answer; the step goes on."""
        self._watch.criteria_done(done)
        return done
