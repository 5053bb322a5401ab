"""Beam search: which continuations go on, which end, and which hypotheses win.

The library's beam scorer decides; a stand-in for it sees what goes in and comes out. Why each continuation
fared as it did is worked out again by the scorer's own rules, and compared with what it decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import transformers
from torch import nn

from hooks.caught_step import CaughtStep, Checked
from hooks.decoding.beam_book import Advances, Book, Given
from hooks.decoding.caught_beams import CaughtBeams, rows_without_order
from hooks.decoding.loop_watch import OnePosition
from hooks.decoding.returned import Closing, Way, check_returned
from hooks.faults import is_ours
from hooks.modules.module_watch import Observer
from hooks.printing import printed_error
from hooks.tensors import Spec, clone
from tracer.analysis.hypotheses import Rules, outcome
from tracer.errors import UnsupportedError
from tracer.schema.beams import BeamEnd, BeamRow, BeamStep, Hypothesis
from tracer.schema.faults import CaptureError

NOT_STARTED = -1e9
"""Score of all beams but the first before the first step, so that they do not all begin alike."""


class BeamWatch(OnePosition):
    """Follows the beams of one run; of each row of the batch, or of each group of it.

    Args:
        arguments: of the loop; its scorer is replaced.
        keep_logits: whether something asks for the model's own logits.
        scorer: the argument that is the scorer.
        splits: whether the loop reads the rows in parts, one after the other.

    Attributes:
        groups: groups of each row of the batch; 1 where there are none.
        beams: beams that are searched together.
        wanted: how many hypotheses of each row are returned, once they are.
    """

    def __init__(
        self,
        arguments: dict[str, Any],
        *,
        keep_logits: bool,
        scorer: str = "beam_scorer",
        splits: bool = False,
    ) -> None:
        self._keep_logits = keep_logits and not splits  # nothing probes its forward passes
        self._logits: torch.Tensor | None = None
        theirs = arguments[scorer]
        first, searches = theirs._beam_hyps[0], len(theirs._beam_hyps)
        self.groups = int(theirs.num_beam_groups)
        self.beams = int(theirs.num_beams) // self.groups
        self._rules = Rules(self.beams, float(first.length_penalty), first.early_stopping, first.max_length)
        self._of_rows: list[list[Hypothesis]] = [[] for _ in range(searches // self.groups)]
        self._books = [Book(number, self._of_rows[number // self.groups]) for number in range(searches)]
        running = torch.full((searches, self.beams), NOT_STARTED)
        running[:, 0] = 0
        self._running: list[float] = running.flatten().tolist()
        self._step = 0
        self._decided: _Decided | None = None
        self._caught: CaughtBeams | None = None
        self._fault: str | None = None
        self._lost = False
        self._moved: dict[int, list[int]] = {}
        self._end: BeamEnd | None = None
        self._way, self._closing = Way(), Closing()
        self.wanted = 1
        arguments[scorer] = self.stand_in(theirs)
        if splits:
            self.passes = self.stacked = self.beams
            self.unprobed = "with low_memory=True a forward pass reads a part of the rows"

    def stand_in(self, scorer: Any) -> WatchedScorer:
        """What the loop is given in place of its scorer.

        Args:
            scorer: the scorer.
        """
        return WatchedScorer(scorer, self)

    def observers(self) -> Mapping[nn.Module, Observer]:
        """None: all that is particular passes through the scorer."""
        return {}

    def begin(self) -> None:
        """The forward pass of a step starts."""
        self._step += 1
        self._decided, self._caught, self._fault, self._logits = None, None, None, None
        self._moved = {}

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
            # Slots of the cache move all the same: its check is not to take that for a fault of the model.
            step.parents = self._parents()
            return
        step.logits = self._logits
        scores = step.tensors.scores
        if scores is not None and len(scores) == step.stages:
            step.tensors.loop = caught.figures(scores)
        step.loop, step.parents = caught, caught.record.parents
        device = step.ids_spec.device
        step.tensors.chosen = torch.tensor(caught.tokens, device=device)
        step.next_ids_spec = Spec(torch.Size((step.rows, step.ids_spec.shape[1] + 1)), torch.int64, device)
        ended = torch.tensor(caught.done, device=device)
        step.tensors.done = ended if step.tensors.done is None else step.tensors.done | ended

    def _parents(self) -> tuple[int, ...]:
        """The row that each row goes on from, once all groups have gone on; else nothing."""
        if len(self._moved) < len(self._books):
            return ()
        return tuple(parent for _, moved in sorted(self._moved.items()) for parent in moved)

    def ending(self) -> BeamEnd | None:
        """The end of the search; None where the run did not come to it."""
        return self._end

    def returned(self, output: Any, prompt: torch.Tensor) -> Checked:
        """The check of what the loop has returned.

        Args:
            output: what it has returned.
            prompt: ``[rows, length]`` that it began with.
        """
        return check_returned(output, prompt, self._end, self._way, self._closing)

    def advances(self, row: int) -> Advances | None:
        """What the scorer found out of its constraints for a row of the batch; None without constraints.

        Args:
            row: the row of the batch.
        """
        return None

    def caught(self, record: BeamStep, tokens: tuple[int, ...], same: tuple[bool, ...]) -> CaughtBeams:
        """What was decided in a step, with what only this search has.

        Args:
            record: the record of it.
            tokens: the token of each row after the step.
            same: for each row of the record, whether the rules lead to the same.
        """
        return CaughtBeams(record, tokens, same)

    def moved(self, given: Given, result: Any) -> None:
        """Rows go on from others, whether or not it can be told why.

        Args:
            given: what the scorer was given.
            result: see :meth:`processed`.
        """
        parents = [self._row(parent, given.group) for parent in result["next_beam_indices"].tolist()]
        for row in range(len(self._of_rows)):
            own = parents[row * self.beams : (row + 1) * self.beams]
            self._moved[row * self.groups + given.group] = own

    def processed(self, given: Given, result: Any, scorer: Any) -> None:
        """The scorer has decided about the continuations of a step; of one group of each row.

        Args:
            given: what it was given.
            result: its ``next_beam_scores``, ``next_beam_tokens`` and ``next_beam_indices``.
            scorer: the scorer after it.
        """
        if self._lost:
            self._fault = self._fault or "the search was not followed since an earlier step"
            return
        decided = self._decided = self._decided or _Decided(self._running)
        scores, tokens = (result[f"next_beam_{name}"].tolist() for name in ("scores", "tokens"))
        for row in range(len(self._of_rows)):
            number = row * self.groups + given.group
            found = self._books[number].step(
                self._rules, self._step, row, given, self._running, self.advances(row)
            )
            mine = slice(row * self.beams, (row + 1) * self.beams)
            own = [*zip(scores[mine], tokens[mine], self._moved[number], strict=True)]
            same = self._decided_so(number, found, given, own, scorer)
            decided.rows[number], decided.same[number], decided.beams[number] = found, same, own
        if len(decided.rows) == len(self._books):
            self._caught = self._whole(decided)
            record = self._caught.record
            self._running = [*record.scores]
            self._way.add(record.parents, self._caught.tokens, rows_without_order(record))

    def _whole(self, decided: _Decided) -> CaughtBeams:
        """The decision about all groups of all rows."""
        beams = [*decided.beams_in_order()]
        record = BeamStep(
            beams=self.beams,
            rows=tuple(row for _, row in sorted(decided.rows.items())),
            parents=tuple(parent for _, _, parent in beams),
            before=decided.before,
            scores=tuple(score for score, _, _ in beams),
            groups=self.groups,
        )
        tokens = tuple(token for _, token, _ in beams)
        return self.caught(record, tokens, tuple(same for _, same in sorted(decided.same.items())))

    def _row(self, own: int, group: int) -> int:
        """The row of the step that is a row among those of a group.

        Args:
            own: its number there.
            group: the group.
        """
        row, beam = divmod(own, self.beams)
        return (row * self.groups + group) * self.beams + beam

    def _decided_so(
        self, number: int, found: BeamRow, given: Given, theirs: Sequence[_Beam], scorer: Any
    ) -> bool:
        """Whether the scorer has decided about a row, or a group of it, as its rules say."""
        ours = _going_on(found)
        if not found.continuations:  # it was done before the step, and is filled up
            ours = [(0.0, given.pad, self._row(0, given.group))] * self.beams
        kept = [value for value, *_ in scorer._beam_hyps[number].beams]
        done = bool(scorer._done[number])
        return [*theirs] == ours and kept == self._books[number].values and found.done == done

    def finalized(self, given: Mapping[str, Any], returned: int) -> None:
        """The scorer has chosen the hypotheses to return.

        Args:
            given: the arguments of ``finalize``.
            returned: how many of each row.
        """
        if self._lost:
            return
        self.wanted = returned
        eos = given.get("eos_token_id")
        self._closing = Closing(None if eos is None else int(torch.as_tensor(eos).flatten()[0]))
        total: list[float] = given["final_beam_scores"].tolist()
        length = given["input_ids"].shape[1] - (given.get("decoder_prompt_len") or 0)
        for number, book in enumerate(self._books):
            if not book.done:
                first = number * self.beams
                self.close(book, {row: total[row] for row in range(first, first + self.beams)}, length)
        self._end = BeamEnd(
            beams=self.beams * self.groups,
            length_penalty=self._rules.length_penalty,
            early_stopping=self._rules.setting,
            rows=tuple(
                outcome(of_row, self._books[row * self.groups : (row + 1) * self.groups], returned)
                for row, of_row in enumerate(self._of_rows)
            ),
            groups=self.groups,
        )

    def close(self, book: Book, open_beams: Mapping[int, float], length: int) -> None:
        """Beams that were open when the run ended become hypotheses.

        Args:
            book: their book.
            open_beams: their scores, by the row that each is.
            length: number of tokens that the length penalty counts.
        """
        book.add_open(self._rules, self._step, open_beams, length)

    def failed(self, error: Exception) -> None:
        """What the scorer did could not be followed, nor can what it does later: its books are not known."""
        self._fault, self._lost = self._fault or printed_error(error), True


_Beam: TypeAlias = tuple[float, int, int]
"""Score, token and parent of a row after a step."""


class _Decided:
    """What the scorer has decided in a step so far.

    Args:
        running: score of each row before the step.

    Attributes:
        before: these scores.
        rows: records of the rows, or of their groups, by number.
        same: for each of them, whether the rules lead to the same.
        beams: their beams after the step.
    """

    def __init__(self, running: Sequence[float]) -> None:
        self.before = tuple(running)
        self.rows: dict[int, BeamRow] = {}
        self.same: dict[int, bool] = {}
        self.beams: dict[int, Sequence[_Beam]] = {}

    def beams_in_order(self) -> Iterator[_Beam]:
        """The beams after the step, by row."""
        for _, beams in sorted(self.beams.items()):
            yield from beams


class WatchedScorer:
    """A stand-in for a beam scorer, which passes everything on.

    Args:
        scorer: the scorer.
        watch: told what it decides.
    """

    def __init__(self, scorer: Any, watch: BeamWatch) -> None:
        self._scorer = scorer
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    @property
    def own_scorer(self) -> Any:
        """The scorer itself, behind the stand-ins of other traces of the run."""
        found = self._scorer
        while isinstance(found, WatchedScorer):
            found = found._scorer
        return found

    def process(self, *args: Any, **kwargs: Any) -> Any:
        """As the scorer's own."""
        given = dict(zip(_PROCESS, args, strict=False)) | kwargs
        # Worked out before it, as the scorer changes what it has.
        read = self.guarded(lambda: Given.read(given))
        result = self._scorer.process(*args, **kwargs)
        if read is not None:
            self.guarded(lambda: self._watch.moved(read, result))
            self.guarded(lambda: self._watch.processed(read, result, self._scorer))
        return result

    def finalize(self, *args: Any, **kwargs: Any) -> Any:
        """As the scorer's own."""
        result = self._scorer.finalize(*args, **kwargs)
        given = dict(zip(_FINALIZE, args, strict=False)) | kwargs
        self.guarded(lambda: self._watch.finalized(given, self._scorer.num_beam_hyps_to_keep))
        return result

    def guarded(self, action: Callable[[], Any]) -> Any:
        """The result of an action; None where it fails, which the step says.

        Args:
            action: the action, which is ours.
        """
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
        arguments: of a beam search.

    Raises:
        UnsupportedError: the scorer is somebody's own.
    """
    scorer, kind = arguments.get("beam_scorer"), "BeamSearchScorer"
    if "constrained_beam_scorer" in arguments:
        scorer, kind = arguments["constrained_beam_scorer"], "ConstrainedBeamSearchScorer"
    # Newer releases have none, nor a beam search that is traced.
    if type(scorer) is not getattr(transformers, kind, None):
        raise UnsupportedError(
            f"Beam search with a scorer of one's own ({type(scorer).__name__}) is not traced; only the "
            "library's is. Generate outside of the trace."
        )


_PROCESS = ("input_ids", "next_scores", "next_tokens", "next_indices")
_FINALIZE = ("input_ids", "final_beam_scores", "final_beam_tokens", "final_beam_indices", "max_length")


def _going_on(row: BeamRow) -> list[_Beam]:
    """Score, token and parent of each continuation that goes on, by the row that it goes on as."""
    going_on = [(each.row, (each.score, each.token, each.parent)) for each in row.continuations]
    return [beam for goes_on, beam in sorted((pair for pair in going_on if pair[0] is not None), key=_first)]


def _first(pair: tuple[int | None, _Beam]) -> int:
    return pair[0] or 0
