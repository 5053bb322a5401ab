"""Contrastive search: which candidates there are, how much each repeats what is there, and which one wins.

Each row of the batch goes into the forward pass once for each of its candidates; with ``low_memory`` each
candidate has a forward pass of its own, and another one follows, of the candidate taken. Their hidden states
are compared with those of all positions before them, and the ranking is computed again from that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hooks.caught_step import CaughtStep, LoopRecord
from hooks.decoding.candidates_cache import CandidatesCache, joined
from hooks.decoding.hidden_context import HiddenContext, HiddenStates, chosen_states, most_similar
from hooks.decoding.loop_watch import OnePosition
from hooks.known_models import KnownModel
from hooks.kv_cache.proof import CacheProof, written_slot_sums
from hooks.kv_cache.signature import cache_signature
from hooks.kv_cache.view import CacheView
from hooks.kv_cache.watch import view_in
from hooks.modules.module_watch import Observer
from hooks.tensors import clone
from tracer.schema.checks import Check, Violation
from tracer.schema.columns import NO_TOKEN
from tracer.schema.faults import CaptureError
from tracer.schema.ranking import ContrastiveStep, RankedCandidate, RowRanking

_LOST = "what an earlier step decided was not recorded, so candidates cannot be ranked again"

_ROUNDINGS = 8
"""Roundings of single precision by which two scores may differ that are computed in another order; in half
precision only the last step rounds."""

_COMPARED = 64
"""Of so many tokens the logits are compared with those that the next step begins with."""


class ContrastiveWatch(OnePosition):
    """Follows the candidates of one run.

    Args:
        arguments: of ``_contrastive_search``.
        model: what is known of the model.
        statistics: whether to take checksums of the cache.
    """

    scores_first = True
    unprobed: str | None = "in contrastive search a forward pass reads several candidates of each row"

    def __init__(self, arguments: Mapping[str, Any], model: KnownModel, *, statistics: bool) -> None:
        config = arguments["generation_config"]
        self._alpha = float(config.penalty_alpha)
        if config.low_memory:
            self.stacked, self.passes = int(config.top_k), int(config.top_k) + 1
        self._model = model
        self._statistics = statistics
        self._proof = CacheProof()
        self._context = HiddenContext()
        self._finished: set[int] = set()
        self._prompt: torch.Tensor | None = None
        self._candidates: list[torch.Tensor] = []
        self._cache = CandidatesCache()
        self._hidden: list[torch.Tensor] = []
        self._left: list[torch.Tensor] = []
        self._expected: torch.Tensor | None = None
        self._dtype = torch.float32
        self._last: CaughtStep | None = None
        self._lost = False
        self._step = 0

    def prompt_pass(self, step: int) -> bool:
        """In the first step."""
        return step == 1

    def observers(self) -> Mapping[nn.Module, Observer]:
        """None."""
        return {}

    def begin(self) -> None:
        """A forward pass starts."""

    def prepared(self, input_ids: torch.Tensor, inputs: Mapping[str, Any], length: int, number: int) -> None:
        """The candidates are about to go into the model; or the next of them, or the one taken.

        Args:
            input_ids: ``[rows · candidates, 1]``.
            inputs: the arguments of the coming ``forward``.
            length: positions of each row before the step.
            number: how many of the step's own forward passes are over.
        """
        if not number:
            self._step += 1
            self._settle()
            self._hidden, self._left, self._candidates = [], [], []
            self._cache = CandidatesCache(length, begins_with=self._expected)
        if number == self.stacked:
            self._cache.read_again = clone(inputs.get("input_ids", input_ids)[:, -1:])
            return
        self._candidates.append(clone(inputs.get("input_ids", input_ids)[:, -1:]))
        self._cache.repeated.append(cache_signature(view_in(inputs, self._model, length)))

    def forwarded(self, outputs: Any) -> None:
        """A forward pass is over: that over the prompt, or that of the candidates, or of one of them."""
        if not self._candidates:
            self._prompt, self._dtype = clone(outputs.hidden_states[-1]), outputs.logits.dtype
            return
        cache, view = self._cache, view_in(outputs, self._model, self._cache.length + 1)
        summed = self._statistics and view.appends
        if cache.read_again is not None:
            cache.written_again = written_slot_sums(view, cache.length) if summed else None
            return
        self._hidden.append(clone(outputs.hidden_states[-1][:, -1]))
        self._left.append(clone(outputs.logits[:, -1, :_COMPARED]))
        cache.grown.append(cache_signature(view))
        if summed:
            cache.add_sums(self._old_sums(view), written_slot_sums(view, cache.length))

    def _old_sums(self, view: CacheView) -> torch.Tensor:
        """``[2, rows, KV heads]`` checksums of the old slots of one layer, whose turn it is."""
        layer = view.lasting[self._step % len(view.lasting)]
        return self._proof.old_slots(view, layer, self._cache.length)

    def updated(self, model_kwargs: Mapping[str, Any]) -> None:
        """The cache holds the candidates that were taken."""
        view = view_in(model_kwargs, self._model, self._cache.length + 1)
        self._cache.selected = cache_signature(view)
        if self._statistics and view.appends:
            self._cache.kept = written_slot_sums(view, self._cache.length)

    def first_scores(self, local: Mapping[str, Any]) -> torch.Tensor | None:
        """The logits that the pass over the prompt or the step before has left."""
        found = local.get("logit_for_next_step")
        return found if isinstance(found, torch.Tensor) else None

    def put(self, step: CaughtStep) -> None:
        """Put what was seen of the candidates into the step."""
        scores = step.tensors.scores
        # Between two steps the candidates are still those of the one before.
        if not self._candidates or step.number != self._step or scores is None or len(scores) < step.stages:
            return
        if self._lost:
            step.errors.append(CaptureError(stop="choice", message=_LOST))
            return
        step.tensors.loop = {
            "first": clone(scores[0][:, :_COMPARED]),
            "final": scores[-1],
            "candidates": joined(self._candidates, step.rows).flatten(1),
            **self._cache.tensors,
        }
        if len(self._hidden) == self.stacked:
            step.tensors.loop["hidden"] = joined(self._hidden, step.rows)
            step.tensors.loop["left"] = joined(self._left, step.rows)
            self._last = step
        if self._prompt is not None:
            step.tensors.loop["prompt"] = self._prompt
        step.loop = CaughtRanking(
            alpha=self._alpha,
            dtype=self._dtype,
            context=self._context,
            parts=len(self._context),
            finished=frozenset(self._finished),
            cache=self._cache,
        )

    def _settle(self) -> None:
        """Add what the step before has decided, which is on the host, to what later ones compare with."""
        step, self._last = self._last, None
        if step is None:
            self._lost |= self._step > 1
            return
        if self._prompt is not None:
            self._context.add(_of_prompt(step))
            self._prompt = None
        tensors = step.tensors
        chosen = [] if tensors.chosen is None else tensors.chosen.tolist()
        candidates = tensors.loop["candidates"].tolist()
        # A row that has ended gets the padding token: what it would have taken is compared with nothing.
        places = [
            row.index(token) if token in row else 0 for row, token in zip(candidates, chosen, strict=True)
        ]
        states = chosen_states(tensors.loop["hidden"], places)
        self._expected = chosen_states(tensors.loop["left"], places)[:, 0]
        self._context.add(HiddenStates(states, tuple((token,) for token in chosen)))
        if tensors.done is not None:
            self._finished |= {row for row, over in enumerate(tensors.done.tolist()) if over}

    def ending(self) -> None:
        """Nothing beside the sequences."""


def _of_prompt(step: CaughtStep) -> HiddenStates:
    """The hidden states of the prompt, and its tokens where it was given as such."""
    states = step.tensors.loop["prompt"]
    rows, length = states.shape[:2]
    ids = step.tensors.prompt.get("input_ids")
    if ids is None or ids.shape != (rows, length):
        return HiddenStates(states, ((None,) * length,) * rows)
    return HiddenStates(states, tuple(map(tuple, ids.tolist())))


@dataclass(frozen=True)
class CaughtRanking:
    """The candidates of a step as they were caught.

    Attributes:
        alpha: weight of the penalty.
        dtype: of the model's logits, in which the candidates are ranked.
        context: the hidden states of the run.
        parts: how many parts of it there were before the step; none before the first.
        finished: rows that had ended before.
        cache: what became of the cache.
    """

    alpha: float
    dtype: torch.dtype
    context: HiddenContext
    parts: int
    finished: frozenset[int]
    cache: CandidatesCache

    def describe(self, step: CaughtStep) -> LoopRecord:
        """Rank the candidates again, and compare that with the tokens that were appended.

        Args:
            step: the step, on the host.
        """
        chosen = step.tensors.chosen
        record = ContrastiveStep(
            penalty_alpha=self.alpha,
            rows=(),
            repeated=self.cache.before.record,
            grown=self.cache.after.record,
        )
        if chosen is None or "hidden" not in step.tensors.loop or bool((chosen == NO_TOKEN).any()):
            return LoopRecord(contrastive=record)  # it stands still, or has failed, before its choice
        found = self._ranked(step, chosen.tolist())
        rows = tuple(self._row(row, found) for row in range(step.rows))
        record = record.model_copy(update={"rows": rows})
        checks = (self._ranking(step, found), self.cache.check(step, found.taken, self.finished))
        return LoopRecord(contrastive=record, checks=checks)

    def _ranked(self, step: CaughtStep, chosen: list[int]) -> _Ranked:
        """The ranking of all rows, step by step as ``_contrastive_search`` computes it."""
        loop = step.tensors.loop
        candidates = loop["candidates"]
        every = loop["final"].to(self.dtype).softmax(dim=-1)
        chances, best_of_all = every.gather(1, candidates), every.topk(candidates.shape[1], dim=-1).values
        penalties, positions = most_similar(self._states(step), loop["hidden"])
        scores = (1.0 - self.alpha) * chances - self.alpha * penalties
        tokens, best = candidates.tolist(), scores.max(dim=-1).indices.tolist()
        places = [
            row.index(token) if token in row else None for row, token in zip(tokens, chosen, strict=True)
        ]
        return _Ranked(
            tokens=tokens,
            chances=chances.float().tolist(),
            penalties=penalties.float().tolist(),
            positions=positions.tolist(),
            scores=scores.float().tolist(),
            ids=self._ids(step),
            best=best,
            most_probable=torch.isclose(chances, best_of_all, rtol=self._room, atol=0, equal_nan=True)
            .all(dim=-1)
            .tolist(),
            appended=places,
        )

    def _row(self, row: int, found: _Ranked) -> RowRanking | None:
        """The ranking of one row; None where it had ended."""
        if row in self.finished:
            return None
        figures = found.tokens, found.chances, found.penalties, found.positions, found.scores
        return RowRanking(
            candidates=tuple(
                RankedCandidate(
                    token=token,
                    probability=chance,
                    penalty=penalty,
                    position=position,
                    similar=found.ids[row][position],
                    score=score,
                )
                for token, chance, penalty, position, score in zip(
                    *(values[row] for values in figures), strict=True
                )
            ),
            taken=found.taken[row],
        )

    def _states(self, step: CaughtStep) -> torch.Tensor:
        """``[rows, positions, hidden]`` at length one, of everything before the candidates."""
        if self.parts:
            return self.context.at_length_one(self.parts)
        alone = HiddenContext()
        alone.add(_of_prompt(step))
        return alone.at_length_one(1)

    def _ids(self, step: CaughtStep) -> list[list[int | None]]:
        if self.parts:
            return self.context.ids(self.parts)
        return [[*row] for row in _of_prompt(step).ids]

    def _ranking(self, step: CaughtStep, found: _Ranked) -> tuple[Check, tuple[Violation, ...]]:
        """Whether the best candidate of each row was appended; scores within roundings are equal."""
        rows = [row for row in range(step.rows) if row not in self.finished]
        wrong = [*self._wrong_rankings(rows, found)]
        # A token that is no candidate at all is wrong wherever it was computed.
        rounded = all(found.appended[each.row] is not None for each in wrong if each.row is not None)
        if wrong and rounded and step.ids_before.device != "cpu":
            reason = f"what {step.ids_before.device} computed cannot be repeated exactly here"
            return Check.not_made("ranking", reason, total=step.rows), ()
        check = Check.made("ranking", holds=not wrong, checked=len(rows), total=step.rows)
        return check, tuple(wrong)

    def _wrong_rankings(self, rows: Sequence[int], found: _Ranked) -> Iterator[Violation]:
        """What is wrong with the candidates of rows, and with the ones that were appended."""
        for row in rows:
            if not found.took_the_best(row, self._room):
                message = "the token appended is not the candidate with the highest score"
                yield Violation(check="ranking", message=message, row=row)
            if not found.most_probable[row]:
                message = "the candidates are not the most probable tokens"
                yield Violation(check="ranking", message=message, row=row)

    @property
    def _room(self) -> float:
        """By how much figures may differ that are computed again."""
        return max(_ROUNDINGS * torch.finfo(torch.float32).eps, torch.finfo(self.dtype).eps)


@dataclass(frozen=True)
class _Ranked:
    """The ranking of a step, row by row.

    Attributes:
        tokens: the candidates, most probable first.
        chances: their probabilities.
        penalties: their largest cosine similarities.
        positions: where these are.
        scores: the two together.
        ids: the tokens before them.
        best: place of the candidate with the highest score.
        most_probable: whether they are the most probable tokens.
        appended: place of the one that was appended; None where none was.
    """

    tokens: list[list[int]]
    chances: list[list[float]]
    penalties: list[list[float]]
    positions: list[list[int]]
    scores: list[list[float]]
    ids: list[list[int | None]]
    best: list[int]
    most_probable: list[bool]
    appended: list[int | None]

    @property
    def taken(self) -> list[int]:
        """Place of the candidate that each row goes on with; of one that has ended, that of the best."""
        return [
            best if place is None else place for best, place in zip(self.best, self.appended, strict=True)
        ]

    def took_the_best(self, row: int, room: float) -> bool:
        """Whether a row took the candidate with the highest score.

        Args:
            row: the row.
            room: by how much equal scores may differ.
        """
        place, best = self.appended[row], self.best[row]
        if place is None:
            return False
        return place == best or self.scores[row][place] >= self.scores[row][best] - room
