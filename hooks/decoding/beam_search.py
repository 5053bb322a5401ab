"""Beam search: which continuations go on, which end, and which hypotheses win.

The library's beam scorer decides; a stand-in for it sees what goes in and comes out. Why each continuation
fared as it did is worked out again by the scorer's own rules, and compared with what it decided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn

from hooks.caught_step import CaughtStep, LoopRecord
from hooks.decoding.beam_book import Book, Given, Rules
from hooks.decoding.loop_watch import OnePosition
from hooks.faults import is_ours
from hooks.modules.module_watch import Observer
from hooks.printing import printed_error
from hooks.tensors import clone, info
from tracer.errors import UnsupportedError
from tracer.library.decoding_modes import IN_PARTS
from tracer.schema.beams import BeamEnd, BeamRow, BeamStep
from tracer.schema.checks import Check, Violation
from tracer.schema.faults import CaptureError

NOT_STARTED = -1e9
"""Score of all beams but the first before the first step, so that they do not all begin alike."""


class BeamWatch(OnePosition):
    """Follows the beams of one run.

    Args:
        arguments: of ``_beam_search``; its ``beam_scorer`` is replaced.
        keep_logits: whether something asks for the model's own logits.
    """

    def __init__(self, arguments: dict[str, Any], *, keep_logits: bool) -> None:
        self._keep_logits = keep_logits
        self._logits: torch.Tensor | None = None
        scorer = arguments["beam_scorer"]
        first = scorer._beam_hyps[0]
        self._beams = int(scorer.num_beams)
        self._rules = Rules(self._beams, float(first.length_penalty), first.early_stopping, first.max_length)
        self._books = [Book() for _ in scorer._beam_hyps]
        running = torch.full((len(scorer._beam_hyps), self._beams), NOT_STARTED)
        running[:, 0] = 0
        self._running: list[float] = running.flatten().tolist()
        self._step = 0
        self._caught: CaughtBeams | None = None
        self._fault: str | None = None
        self._end: BeamEnd | None = None
        arguments["beam_scorer"] = _Watched(scorer, self)

    def observers(self) -> Mapping[nn.Module, Observer]:
        """None: all that is particular passes through the scorer."""
        return {}

    def begin(self) -> None:
        """The forward pass of a step starts."""
        self._step += 1
        self._caught, self._fault, self._logits = None, None, None

    def forwarded(self, outputs: Any) -> None:
        """It is over."""
        if self._keep_logits:
            self._logits = clone(outputs.logits[:, -1, :])

    def first_scores(self, local: Mapping[str, Any]) -> torch.Tensor | None:
        """The log-probabilities of the logits, as the loop computes them next."""
        logits = getattr(local.get("outputs"), "logits", None)
        return None if logits is None else logits[:, -1, :].log_softmax(dim=-1)

    def put(self, step: CaughtStep) -> None:
        """Put what the scorer decided into the step."""
        if self._fault is not None:
            step.errors.append(CaptureError(stop="beams", message=self._fault))
        caught = self._caught
        if caught is None:
            return
        step.logits = self._logits
        scores = step.tensors.scores
        if scores is not None and len(scores) == step.stages:
            step.tensors.loop = {"log_probabilities": caught.chosen_from(scores[-1])}
        step.loop, step.parents = caught, caught.record.parents
        device = torch.device(step.ids_before.device)
        step.tensors.chosen = torch.tensor(caught.tokens, device=device)
        step.ids_after = info(torch.Size((step.rows, step.ids_before.shape[1] + 1)), torch.int64, device)
        done = [row.done for row in caught.record.rows for _ in range(self._beams)]
        ended = torch.tensor(done, device=device)
        step.tensors.done = ended if step.tensors.done is None else step.tensors.done | ended

    def ending(self) -> BeamEnd | None:
        """The end of the search; None where the run did not come to it."""
        return self._end

    def processed(self, given: Given, result: Any, scorer: Any) -> None:
        """The scorer has decided about the continuations of a step.

        Args:
            given: what it was given.
            result: its ``next_beam_scores``, ``next_beam_tokens`` and ``next_beam_indices``.
            scorer: the scorer after it.
        """
        rows = [
            book.step(self._rules, self._step, row, given, self._running)
            for row, book in enumerate(self._books)
        ]
        outputs = [result[f"next_beam_{name}"].tolist() for name in ("scores", "tokens", "indices")]
        record = BeamStep(
            beams=self._beams,
            rows=tuple(rows),
            parents=tuple(outputs[2]),
            before=tuple(self._running),
            scores=tuple(outputs[0]),
        )
        same = [self._decided_so(row, found, given, outputs, scorer) for row, found in enumerate(rows)]
        self._caught = CaughtBeams(record, tuple(outputs[1]), tuple(same))
        self._running = outputs[0]

    def _decided_so(
        self, row: int, found: BeamRow, given: Given, outputs: list[list[Any]], scorer: Any
    ) -> bool:
        """Whether the scorer has decided about a row as its rules say."""
        first = row * self._beams
        theirs = [tuple(values[first : first + self._beams]) for values in outputs]
        ours = [*zip(*_going_on(found), strict=True)]
        if not found.continuations:  # it was done before the step, and is filled up
            ours = [(value,) * self._beams for value in (0.0, given.pad, 0)]
        kept = [value for value, *_ in scorer._beam_hyps[row].beams]
        done = bool(scorer._done[row])
        return theirs == ours and kept == self._books[row].values and found.done == done

    def finalized(self, given: Mapping[str, Any], returned: int) -> None:
        """The scorer has chosen the hypotheses to return.

        Args:
            given: the arguments of ``finalize``.
            returned: how many of each row.
        """
        total: list[float] = given["final_beam_scores"].tolist()
        length = given["input_ids"].shape[1] - (given.get("decoder_prompt_len") or 0)
        for row, book in enumerate(self._books):
            if not book.done:
                for beam in range(row * self._beams, (row + 1) * self._beams):
                    book.add(self._rules, self._step, beam, None, total[beam], length)
        self._end = BeamEnd(
            beams=self._beams,
            length_penalty=self._rules.length_penalty,
            early_stopping=self._rules.setting,
            rows=tuple(book.outcome(returned) for book in self._books),
        )

    def failed(self, error: Exception) -> None:
        """What the scorer did could not be followed."""
        self._fault = printed_error(error)


class _Watched:
    """A stand-in for a beam scorer, which passes everything on."""

    def __init__(self, scorer: Any, watch: BeamWatch) -> None:
        self._scorer = scorer
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def process(self, *args: Any, **kwargs: Any) -> Any:
        """As the scorer's own."""
        given = dict(zip(_PROCESS, args, strict=False)) | kwargs
        # Worked out before it, as the scorer changes what it has.
        read = self._guarded(lambda: Given.read(given))
        result = self._scorer.process(*args, **kwargs)
        if read is not None:
            self._guarded(lambda: self._watch.processed(read, result, self._scorer))
        return result

    def finalize(self, *args: Any, **kwargs: Any) -> Any:
        """As the scorer's own."""
        result = self._scorer.finalize(*args, **kwargs)
        given = dict(zip(_FINALIZE, args, strict=False)) | kwargs
        self._guarded(lambda: self._watch.finalized(given, self._scorer.num_beam_hyps_to_keep))
        return result

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            if not is_ours(error):
                raise
            self._watch.failed(error)
            return None


def require_own_scorer(arguments: Mapping[str, Any]) -> None:
    """Refuse what cannot be followed.

    Args:
        arguments: of ``_beam_search``.

    Raises:
        UnsupportedError: the scorer is somebody's own, or each forward pass is made in parts.
    """
    scorer = arguments["beam_scorer"]
    # Newer releases have none, nor a beam search that is traced.
    if type(scorer) is not getattr(transformers, "BeamSearchScorer", None):
        raise UnsupportedError(
            f"Beam search with a scorer of one's own ({type(scorer).__name__}) is not traced; only the "
            "library's is. Generate outside of the trace."
        )
    if arguments["generation_config"].low_memory:
        raise UnsupportedError(IN_PARTS)


_PROCESS = ("input_ids", "next_scores", "next_tokens", "next_indices")
_FINALIZE = ("input_ids", "final_beam_scores", "final_beam_tokens", "final_beam_indices", "max_length")


def _going_on(row: BeamRow) -> list[tuple[float, int, int]]:
    """Score, token and parent of each continuation that goes on."""
    return [(each.score, each.token, each.parent) for each in row.continuations if each.row is not None]


@dataclass(frozen=True)
class CaughtBeams:
    """What the scorer decided in a step.

    Attributes:
        record: the record of it.
        tokens: the token of each row after the step.
        as_expected: for each row of the batch, whether the rules lead to the same.
    """

    record: BeamStep
    tokens: tuple[int, ...]
    as_expected: tuple[bool, ...]

    def chosen_from(self, final: torch.Tensor) -> torch.Tensor:
        """The log-probability of each continuation, in the order of the record.

        Args:
            final: ``[rows, vocab]`` scores after all processors.
        """
        found = [each for row in self.record.rows for each in row.continuations]
        places = torch.tensor([[each.parent for each in found], [each.token for each in found]])
        rows, tokens = places.long().to(final.device)
        return final[rows, tokens]

    def _with(self, log_probabilities: list[float]) -> BeamStep:
        """The record with the log-probability of each continuation."""
        values = iter(log_probabilities)
        filled = tuple(
            row.model_copy(
                update={
                    "continuations": tuple(
                        each.model_copy(update={"log_probability": next(values)})
                        for each in row.continuations
                    )
                }
            )
            for row in self.record.rows
        )
        return self.record.model_copy(update={"rows": filled})

    def describe(self, step: CaughtStep) -> LoopRecord:
        """The record, and whether it is what the scorer's rules lead to.

        Args:
            step: the step.
        """
        found = step.tensors.loop.get("log_probabilities")
        return checked(self.record if found is None else self._with(found.tolist()), self.as_expected)


def checked(record: BeamStep, as_expected: Sequence[bool]) -> LoopRecord:
    """A record with its check.

    Args:
        record: the record of a step.
        as_expected: for each row of the batch, whether the rules lead to what was decided.
    """
    total = len(as_expected)
    wrong = [row for row in range(total) if not (as_expected[row] and _adds_up(record.rows[row]))]
    check = Check.made("beams", holds=not wrong, checked=total, total=total)
    violations = tuple(
        Violation(
            check="beams",
            message=f"batch row {row}: the beams or hypotheses are not those that the scores lead to",
            row=row * record.beams,
        )
        for row in wrong
    )
    return LoopRecord(beams=record, checks=((check, violations),))


def _adds_up(row: BeamRow) -> bool:
    """Whether each score is that of the beam before and the token's log-probability together."""
    return all(
        each.log_probability is None
        or math.isclose(each.score, each.before + each.log_probability, rel_tol=_ROUNDING)
        or math.isnan(each.log_probability)
        for each in row.continuations
    )


_ROUNDING = 1e-6
"""Relative error of a sum of two numbers of single precision, some roundings over."""
