"""Assisted decoding: which tokens are proposed, which the model accepts, and why it stops accepting.

A stand-in for the candidate generator sees the proposals and how many of them matched. The processors run
once for each position that was proposed and once behind them; the scores of a step are those of the last
token that it appends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import LogitsProcessorList
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from hooks.caught_step import CaughtStep, LoopRecord
from hooks.decoding.loop_watch import NoHelpers, PassFirst, ScoreObserver
from hooks.faults import is_ours
from hooks.modules.module_watch import Observer
from hooks.printing import printed, printed_error
from hooks.scores.random_state import generator_state
from hooks.scores.stages import ScoreStages
from hooks.tensors import Spec, clone
from tracer.library.release import installed_release
from tracer.schema.assisted import AssistedStep, Proposal
from tracer.schema.checks import Check, Violation
from tracer.schema.faults import CaptureError


class AssistedWatch(PassFirst, NoHelpers):
    """Follows the proposals of one run.

    Args:
        arguments: of ``_assisted_decoding``; its ``candidate_generator`` is replaced, if it is given one.
        keep_logits: whether something asks for the model's own logits.
    """

    def __init__(self, arguments: dict[str, Any], *, keep_logits: bool) -> None:
        self._keep_logits = keep_logits
        self._sampling = bool(arguments["generation_config"].do_sample)
        self._ensemble = getattr(arguments["generation_config"], "assistant_ensemble_weight", None)
        self._own_processors = arguments["logits_processor"]
        self._processors = len(self._own_processors)
        warpers = arguments.get("logits_warper") if self._sampling else None
        self._count = 1 + self._processors + len(warpers or LogitsProcessorList())
        self._fault: str | None = None
        self._round = Round()
        if "candidate_generator" in arguments:
            arguments["candidate_generator"] = self.proposer(arguments["candidate_generator"])

    def proposer_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The program's own processors, which a draft model runs too.

        Args:
            arguments: by name.
        """
        return {**arguments, "logits_processor": self._own_processors}

    def proposer(self, made: Any) -> Any:
        """A stand-in for what proposes tokens.

        Args:
            made: the candidate generator.
        """
        return _Watched(made, self)

    def observers(self) -> Mapping[nn.Module, Observer]:
        """None."""
        return {}

    def begin(self) -> None:
        """The forward pass of a step starts."""

    def forwarded(self, outputs: Any) -> None:
        """It is over: the logits of every position that was proposed, and of the one behind them."""
        found = self._round
        found.checking = False
        logits = clone(outputs.logits[:, -found.count - 1 :, :])
        # Newer releases decide in float32, whatever the model computes in.
        found.dtype = torch.float32 if installed_release().float32_scores else logits.dtype
        found.state = generator_state(logits.device) if self._sampling else None
        found.stages = []
        for place in range(logits.shape[1]):
            stages = ScoreStages(self._count, logits[:, place])
            stages.put(0, logits[:, place])
            found.stages.append(stages)

    def first_scores(self, local: Mapping[str, Any]) -> None:
        """None: which position the scores of the step are of is only known when proposals are accepted."""

    def scores(self) -> ScoreStages | None:
        """The scores of the last token that the step appends; None while that is not known."""
        found = self._round
        if not found.appended or len(found.stages) < len(found.appended):
            return None
        return found.stages[len(found.appended) - 1]

    def kept(self, fed: int) -> int:
        """How many of the positions that were fed the cache keeps.

        Args:
            fed: positions that went into the model.
        """
        found = self._round
        return fed - found.count + len(found.appended) - 1 if found.appended else fed

    def decided_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The sequence without what is only proposed."""
        return input_ids[:, : self._round.length] if self._round.length else input_ids

    def observer(self, capture: ScoreObserver) -> ScoreObserver:
        """What the lists of processors and criteria report to.

        Args:
            capture: what they report to in other loops.
        """
        return _Positions(self, capture)

    def put(self, step: CaughtStep) -> None:
        """Put what was decided into the step."""
        if self._fault is not None:
            step.errors.append(CaptureError(stop="candidates", message=self._fault))
        found = self._round
        if not found.appended:
            return
        device = step.ids_spec.device
        step.tensors.chosen = torch.tensor(found.appended[-1:], device=device)
        step.next_ids_spec = Spec(torch.Size((1, found.length + len(found.appended))), torch.int64, device)
        stages = self.scores()
        if stages is not None:
            step.vocab_size = stages.stages[0].shape[-1]
            step.logits = stages.stages[0] if self._keep_logits else None
        step.tensors.loop = {"final": torch.stack([each.stages[-1] for each in found.stages], dim=1)}
        if found.draft is not None:
            step.tensors.loop["draft"] = found.draft
        if found.state is not None:
            step.tensors.loop["state"] = found.state
        if found.before is not None:
            step.tensors.loop["before"] = found.before
        step.loop = CaughtProposals(
            proposer=found.proposer,
            tokens=found.tokens,
            appended=found.appended,
            seconds=found.seconds,
            sampling=self._sampling,
            ngram=found.ngram,
            next_length=found.next_length,
            dtype=found.dtype,
            ensemble=self._ensemble is not None,
        )

    def ending(self) -> None:
        """Nothing beside the sequences."""

    def on_scores(self, stage: int, scores: torch.Tensor) -> None:
        """Scores of one position; a list runs for all positions before the other one does."""
        found = self._round
        if stage == 0:
            found.processed += 1
            return  # the logits are there
        place = found.processed if stage <= self._processors else found.warped
        if 0 <= place < len(found.stages):
            found.stages[place].put(stage, scores)

    def on_scores_done(self) -> None:
        """The last list has run for a position."""
        self._round.warped += 1

    @property
    def checking(self) -> bool:
        """Whether the criteria are asked about the proposals, and not about the step."""
        return self._round.checking

    def proposed(self, input_ids: torch.Tensor, found: Any, generator: Any, seconds: float) -> None:
        """Tokens were proposed.

        Args:
            input_ids: ``[1, length]`` before the step.
            found: the whole sequences with the proposals, and their logits.
            generator: what proposed them.
            seconds: how long it took.
        """
        ids, logits = found
        length = input_ids.shape[1]
        tokens = tuple(ids[0, length:].tolist())
        looks_up = isinstance(generator, PromptLookupCandidateGenerator)
        self._fault = None
        self._round = Round(
            proposer=printed(type(generator).__name__),
            length=length,
            tokens=tokens,
            draft=None if logits is None else clone(logits),
            seconds=seconds,
            checking=True,
            before=clone(input_ids[0]) if looks_up else None,
            ngram=generator.max_matching_ngram_size if looks_up else 0,
        )

    def decided(self, input_ids: torch.Tensor, generator: Any) -> None:
        """The model has accepted some of them.

        Args:
            input_ids: the sequence after the step.
            generator: what proposed them, its strategy updated.
        """
        found = self._round
        found.appended = tuple(input_ids[0, found.length :].tolist())
        length = getattr(generator, "num_assistant_tokens", None)
        found.next_length = float(length) if isinstance(length, int | float) else None

    def failed(self, error: Exception) -> None:
        """What was proposed or decided could not be followed."""
        self._fault = printed_error(error)


@dataclass
class Round:
    """What is known of the step in progress.

    Attributes:
        proposer: class of the candidate generator.
        length: tokens of the sequence before the step.
        tokens: the proposals.
        draft: ``[1, proposals, vocab]`` logits of the draft model.
        seconds: time that it took to propose them.
        checking: the criteria are asked about the proposals.
        stages: scores of each position.
        processed: place of the position whose processors run.
        warped: how many positions all lists have run for.
        state: RNG state before anything is drawn.
        appended: the tokens that the step appends.
        before: ``[length]`` the sequence before the step, where prompt lookup looks; None elsewhere.
        ngram: how many tokens it compares at most; 0 where something else proposes.
        next_length: how many tokens are to be proposed next.
        dtype: of the model's logits, in which the decision is made.
    """

    proposer: str = ""
    length: int = 0
    tokens: tuple[int, ...] = ()
    draft: torch.Tensor | None = None
    seconds: float = 0.0
    checking: bool = False
    stages: list[ScoreStages] = field(default_factory=list)
    processed: int = -1
    warped: int = 0
    state: torch.Tensor | None = None
    appended: tuple[int, ...] = ()
    before: torch.Tensor | None = None
    ngram: int = 0
    next_length: float | None = None
    dtype: torch.dtype = torch.float32

    @property
    def count(self) -> int:
        """How many tokens were proposed."""
        return len(self.tokens)


class _Positions:
    """Sorts the scores of the positions, and keeps back what the criteria say of mere proposals."""

    def __init__(self, watch: AssistedWatch, capture: ScoreObserver) -> None:
        self._watch = watch
        self._capture = capture

    def on_scores(self, stage: int, scores: torch.Tensor) -> None:
        """Scores of one position."""
        try:
            self._watch.on_scores(stage, scores)
        except Exception as error:
            if not is_ours(error):
                raise
            self._watch.failed(error)

    def on_scores_done(self, scores: torch.Tensor) -> torch.Tensor:
        """The last list has run for a position."""
        self._watch.on_scores_done()
        return self._capture.on_scores_done(scores)

    def on_appended(self, input_ids: torch.Tensor) -> None:
        """The sequence after the step, or with the proposals."""
        if not self._watch.checking:
            self._capture.on_appended(input_ids)

    def on_criterion(self, index: int, done: Any) -> None:
        """The answer of a criterion."""
        if not self._watch.checking:
            self._capture.on_criterion(index, done)

    def on_stopping_done(self, done: Any) -> Any:
        """The answer of all criteria."""
        return done if self._watch.checking else self._capture.on_stopping_done(done)


class _Watched:
    """A stand-in for a candidate generator, which passes everything on."""

    def __init__(self, generator: Any, watch: AssistedWatch) -> None:
        self.__dict__.update(_generator=generator, _watch=watch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._generator, name, value)

    def get_candidates(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the generator's own."""
        began = time.perf_counter()
        found = self._generator.get_candidates(input_ids, *args, **kwargs)
        seconds = time.perf_counter() - began
        self._guarded(lambda: self._watch.proposed(input_ids, found, self._generator, seconds))
        return found

    def update_candidate_strategy(self, input_ids: torch.Tensor, scores: Any, num_matches: Any) -> Any:
        """As the generator's own."""
        result = self._generator.update_candidate_strategy(input_ids, scores, num_matches)
        self._guarded(lambda: self._watch.decided(input_ids, self._generator))
        return result

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            if not is_ours(error):
                raise
            self._watch.failed(error)


def _lookup(ids: list[int], tokens: tuple[int, ...], ngram: int) -> tuple[tuple[int, ...], int | None]:
    """The tokens that prompt lookup found further up in the sequence, and where.

    Args:
        ids: the sequence.
        tokens: what was proposed, the tokens behind them.
        ngram: how many it compares at most.
    """
    for size in range(min(ngram, len(ids) - 1) if tokens else 0, 0, -1):
        wanted = ids[-size:]
        for at in range(len(ids) - size + 1):
            if ids[at : at + size] == wanted and tuple(ids[at + size : at + size + len(tokens)]) == tokens:
                return tuple(wanted), at
    return (), None


@dataclass(frozen=True)
class CaughtProposals:
    """The proposals of a step as they were caught (see :class:`Round`)."""

    proposer: str
    tokens: tuple[int, ...]
    appended: tuple[int, ...]
    seconds: float
    sampling: bool
    ngram: int
    next_length: float | None
    dtype: torch.dtype
    ensemble: bool

    def describe(self, step: CaughtStep) -> LoopRecord:
        """Repeat the decision, and compare it with the tokens that were appended.

        Args:
            step: the step, on the host.
        """
        final = step.tensors.loop["final"].to(self.dtype)
        draft, state = step.tensors.loop.get("draft"), step.tensors.loop.get("state")
        target = final.softmax(dim=-1)[0]
        # Where proposals that match end the text, nothing of the model's own follows.
        own = self.appended != self.tokens[: len(self.appended)]
        accepted = len(self.appended) - own
        draws, choices = self._repeated(final, state, speculative=draft is not None)
        chances = None if draft is None else draft.softmax(dim=-1)[0]
        before = step.tensors.loop.get("before")
        matched, at = ((), None) if before is None else _lookup(before.tolist(), self.tokens, self.ngram)
        record = AssistedStep(
            proposer=self.proposer,
            proposals=tuple(
                Proposal(
                    token=token,
                    accepted=place < accepted,
                    draft=None if chances is None else float(chances[place, token]),
                    target=float(target[place, token]),
                    draw=None if draws is None else draws[place],
                    choice=None if choices is None else choices[place],
                )
                for place, token in enumerate(self.tokens)
            ),
            appended=self.appended,
            own=own,
            seconds=self.seconds,
            forwards=len(self.tokens) if draft is not None else 0,
            matched=matched,
            matched_at=at,
            next_length=self.next_length,
        )
        return LoopRecord(assisted=record, checks=(self._check(step, record, draws, choices),))

    def _repeated(
        self,
        final: torch.Tensor,
        state: torch.Tensor | None,
        *,
        speculative: bool,
    ) -> tuple[list[float] | None, list[int] | None]:
        """The random numbers of the acceptance test, or what the model chose at each position."""
        if self.ensemble:
            return None, None
        if not self.sampling:
            return None, final[0].argmax(dim=-1).tolist()
        generator = _generator(state)
        if generator is None:
            return None, None
        if speculative:
            return torch.rand(len(self.tokens), generator=generator, dtype=final.dtype).tolist(), None
        chances = final.softmax(dim=-1)[0]
        return None, torch.multinomial(chances, num_samples=1, generator=generator)[:, 0].tolist()

    def _check(
        self,
        step: CaughtStep,
        record: AssistedStep,
        draws: list[float] | None,
        choices: list[int] | None,
    ) -> tuple[Check, tuple[Violation, ...]]:
        total = len(self.tokens)
        expected = self._expected(record, draws, choices)
        if expected is None:
            reason = f"the draw on {step.ids_before.device} cannot be repeated here"
            if self.ensemble:
                reason = "proposals are compared with both models together (assistant_ensemble_weight)"
            return Check.not_made("assisted", reason, total=total), ()
        # A text that a proposal ends needs no more of them.
        ended = step.tensors.done is not None and bool(step.tensors.done.all())
        cut = ended and not record.own and record.accepted < expected
        enough = record.accepted == expected or cut
        held = enough and self._continues(record, choices)
        check = Check.made("assisted", holds=held, checked=total, total=total)
        message = f"{record.accepted} of {total} proposals were accepted, expected {expected}"
        return check, () if held else (Violation(check="assisted", message=message),)

    def _expected(
        self, record: AssistedStep, draws: list[float] | None, choices: list[int] | None
    ) -> int | None:
        """How many proposals there are up to the first that has to be rejected."""
        if choices is not None:
            same = [choice == token for choice, token in zip(choices, self.tokens, strict=False)]
        elif draws is not None:
            same = [
                draw <= each.target / (each.draft or math.inf)
                for draw, each in zip(draws, record.proposals, strict=True)
            ]
        else:
            return None
        return same.index(False) if False in same else len(same)

    def _continues(self, record: AssistedStep, choices: list[int] | None) -> bool:
        """Whether the tokens appended are those accepted, and what the model chose behind them."""
        accepted = self.tokens[: record.accepted]
        behind = self.appended[record.accepted :]
        if not record.own:
            return True
        return self.appended[: record.accepted] == accepted and (
            choices is None or behind == (choices[record.accepted],)
        )


def _generator(state: torch.Tensor | None) -> torch.Generator | None:
    """A generator of its own in the state of the CPU's; None where the state is a GPU's."""
    generator = torch.Generator()
    if state is None or state.numel() != generator.get_state().numel():
        return None
    generator.set_state(state)
    return generator
