"""Contrastive search: which candidates there are, how much each repeats what is there, and which one wins.

Each row of the batch goes into the forward pass once for each of its candidates. Their hidden states are
compared with those of all positions before them, and the ranking is computed again from that. The KV cache
is repeated for it, grows by one slot, and is cut down to the candidates taken; checksums show each of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hooks.caught_step import CaughtStep, LoopRecord
from hooks.decoding.hidden_context import HiddenContext, HiddenStates, chosen_states, most_similar
from hooks.decoding.loop_watch import OnePosition
from hooks.known_models import KnownModel
from hooks.kv_cache.proof import CacheProof, written_slot_sums
from hooks.kv_cache.signature import NO_CACHE, CacheSignature, cache_signature
from hooks.kv_cache.view import CacheView
from hooks.kv_cache.watch import view_in
from hooks.modules.module_watch import Observer
from hooks.tensors import clone
from tracer.library.decoding_modes import CANDIDATE_BY_CANDIDATE
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
        self._model = model
        self._statistics = statistics
        self._proof = CacheProof()
        self._context = HiddenContext()
        self._finished: set[int] = set()
        self._prompt: torch.Tensor | None = None
        self._candidates: torch.Tensor | None = None
        self._cache = _CandidatesCache()
        self._hidden: torch.Tensor | None = None
        self._left: torch.Tensor | None = None
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

    def prepared(self, input_ids: torch.Tensor, inputs: Mapping[str, Any], length: int) -> None:
        """The candidates are about to go into the model.

        Args:
            input_ids: ``[rows · candidates, 1]``.
            inputs: the arguments of the coming ``forward``.
            length: positions of each row before the step.
        """
        self._step += 1
        self._settle()
        self._hidden, self._candidates = None, clone(input_ids)
        view = view_in(inputs, self._model, length)
        self._cache = _CandidatesCache(repeated=cache_signature(view), length=length)

    def forwarded(self, outputs: Any) -> None:
        """A forward pass is over: that over the prompt, or that of the candidates."""
        if self._candidates is None:
            self._prompt, self._dtype = clone(outputs.hidden_states[-1]), outputs.logits.dtype
            return
        self._hidden = clone(outputs.hidden_states[-1][:, -1])
        self._left = clone(outputs.logits[:, -1, :_COMPARED])
        view = view_in(outputs, self._model, self._cache.length + 1)
        self._cache.grown = cache_signature(view)
        if self._statistics and view.appends:
            self._cache.old = self._old_sums(view)
            self._cache.written = written_slot_sums(view, self._cache.length)

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
        scores, candidates = step.tensors.scores, self._candidates
        # Between two steps the candidates are still those of the one before.
        if candidates is None or step.number != self._step or scores is None or len(scores) < step.stages:
            return
        if self._lost:
            step.errors.append(CaptureError(stop="choice", message=_LOST))
            return
        step.tensors.loop = {
            "first": clone(scores[0][:, :_COMPARED]),
            "final": scores[-1],
            "candidates": candidates.reshape(step.rows, -1),
            **self._cache.tensors,
        }
        if self._hidden is not None:
            step.tensors.loop["hidden"] = self._hidden.reshape(step.rows, -1, self._hidden.shape[-1])
            self._last = step
        if self._left is not None:
            step.tensors.loop["left"] = self._left.reshape(step.rows, -1, self._left.shape[-1])
        if self._prompt is not None:
            step.tensors.loop["prompt"] = self._prompt
        step.loop = CaughtRanking(
            alpha=self._alpha,
            dtype=self._dtype,
            context=self._context,
            parts=len(self._context),
            finished=frozenset(self._finished),
            cache=self._cache,
            begins_with=self._expected,
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


def require_one_pass(arguments: Mapping[str, Any]) -> None:
    """Refuse what cannot be followed.

    Args:
        arguments: of ``_contrastive_search``.

    Raises:
        UnsupportedError: the candidates go into the model one after the other.
    """
    if arguments["generation_config"].low_memory:
        raise CANDIDATE_BY_CANDIDATE.error()


def _of_prompt(step: CaughtStep) -> HiddenStates:
    """The hidden states of the prompt, and its tokens where it was given as such."""
    states = step.tensors.loop["prompt"]
    rows, length = states.shape[:2]
    ids = step.tensors.prompt.get("input_ids")
    if ids is None or ids.shape != (rows, length):
        return HiddenStates(states, ((None,) * length,) * rows)
    return HiddenStates(states, tuple(map(tuple, ids.tolist())))


@dataclass
class _CandidatesCache:
    """What the KV cache of a step goes through.

    Attributes:
        length: slots that each row had before the candidates.
        repeated: the cache before the candidates' forward pass.
        grown: the same after it.
        selected: what goes into the next step.
        old: ``[2, rows · candidates, KV heads]`` checksums of the old slots of one layer.
        written: ``[2 · layers, rows · candidates, KV heads]`` checksums of the candidates' slots.
        kept: ``[2 · layers, rows, KV heads]`` checksums of the same slots of the rows taken.
    """

    length: int = 0
    repeated: CacheSignature = NO_CACHE
    grown: CacheSignature = NO_CACHE
    selected: CacheSignature = NO_CACHE
    old: torch.Tensor | None = None
    written: torch.Tensor | None = None
    kept: torch.Tensor | None = None

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The checksums that were taken, by name."""
        found = {"old": self.old, "written": self.written, "kept": self.kept}
        return {name: sums for name, sums in found.items() if sums is not None}


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
        begins_with: ``[rows, n]`` the first logits that the step before has left; None in the first step.
    """

    alpha: float
    dtype: torch.dtype
    context: HiddenContext
    parts: int
    finished: frozenset[int]
    cache: _CandidatesCache
    begins_with: torch.Tensor | None = None

    def describe(self, step: CaughtStep) -> LoopRecord:
        """Rank the candidates again, and compare that with the tokens that were appended.

        Args:
            step: the step, on the host.
        """
        chosen = step.tensors.chosen
        record = ContrastiveStep(
            penalty_alpha=self.alpha,
            rows=(),
            repeated=self.cache.repeated.record,
            grown=self.cache.grown.record,
        )
        if chosen is None or "hidden" not in step.tensors.loop or bool((chosen == NO_TOKEN).any()):
            return LoopRecord(contrastive=record)  # it stands still, or has failed, before its choice
        found = self._ranked(step, chosen.tolist())
        rows = tuple(self._row(row, found) for row in range(step.rows))
        record = record.model_copy(update={"rows": rows})
        checks = (self._ranking(step, found), self._selection(step, found.taken))
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

    def _selection(self, step: CaughtStep, places: list[int]) -> tuple[Check, tuple[Violation, ...]]:
        """Whether the cache was repeated, grew by one slot, and kept the rows of the candidates taken."""
        total, sums = step.rows, step.tensors.loop
        if self.cache.selected is NO_CACHE:
            return Check.not_made("selection", "what the next step begins with was not seen", total=total), ()
        wrong = [*self._wrong_sizes(total, sums["candidates"].shape[1]), *self._wrong_beginnings(step)]
        summed = {"old", "written", "kept"} <= sums.keys()
        if not summed and not wrong:
            return Check.not_made("selection", "no checksums of the cache were taken", total=total), ()
        for row in range(total) if summed else ():
            problem = self._moved(row, places[row], sums, total)
            if problem:
                wrong.append(Violation(check="selection", message=problem, row=row))
        check = Check.made("selection", holds=not wrong, checked=total if summed else 0, total=total)
        return check, tuple(wrong)

    def _wrong_beginnings(self, step: CaughtStep) -> list[Violation]:
        """Where the step does not begin with the logits that the candidate taken before has left."""
        if self.begins_with is None:
            return []
        left, own = self.begins_with.float(), step.tensors.loop["first"].float()
        same = ((left == own) | (left.isnan() & own.isnan())).all(dim=-1).tolist()
        message = "its logits are not those of the candidate that the step before took"
        return [
            Violation(check="selection", message=message, row=row)
            for row, fits in enumerate(same)
            if not fits and row not in self.finished
        ]

    def _wrong_sizes(self, rows: int, candidates: int) -> list[Violation]:
        """Where the cache has other rows or slots than it should have."""
        cache = self.cache
        expected = (
            ("repeated", cache.repeated, rows * candidates, cache.length),
            ("grown", cache.grown, rows * candidates, cache.length + 1),
            ("selected", cache.selected, rows, cache.length + 1),
        )
        return [
            Violation(check="selection", message=f"the {name} cache {problem}")
            for name, found, count, length in expected
            if (problem := _other_size(found, count, length))
        ]

    def _moved(self, row: int, place: int, sums: Mapping[str, torch.Tensor], rows: int) -> str | None:
        """What is wrong with the slots of a row; None if nothing is."""
        block = _of_row(sums["old"], row, rows)
        if not bool((block == block[:, :1]).all()):
            return "its candidates did not begin with the same old slots"
        kept = sums["kept"]
        if kept.shape[1] != rows:
            return None  # its size says so
        same = (_of_row(sums["written"], row, rows) == kept[:, row, None]).flatten(2).all(dim=2).all(dim=0)
        if row in self.finished:
            return None if bool(same.any()) else "its new slot is that of none of its candidates"
        return None if bool(same[place]) else "its new slot is not that of the candidate taken"


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


def _of_row(sums: torch.Tensor, row: int, rows: int) -> torch.Tensor:
    """``[m, candidates, KV heads]`` those of the candidates of one row, of ``[m, rows · candidates, …]``."""
    return sums.reshape(len(sums), rows, -1, *sums.shape[2:])[:, row]


def _other_size(found: CacheSignature, rows: int, length: int) -> str | None:
    """How a cache differs from what it should be; None if it does not."""
    there = {key[0][0] for _, _, key, _ in found.groups}
    if there and there != {rows}:
        return f"has {', '.join(map(str, sorted(there)))} rows, expected {rows}"
    if found.length != length:
        return f"holds {found.length} slots, expected {length}"
    return None
