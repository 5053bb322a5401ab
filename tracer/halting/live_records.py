"""Records of the step in progress and of the one before, made when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from hooks.caught_step import CaughtStep, as_array
from hooks.loop.step_builder import StepBuilder
from hooks.scores.random_state import coming_choice, digest
from hooks.tensors import to_host
from hooks.token_texts import TokenTexts
from tracer.schema.columns import NO_TOKEN
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step


class LiveRecords:
    """Makes the records of a run in progress.

    Args:
        tokenizer: the model's tokenizer, None to show ids only.

    Attributes:
        run: number of the run in the trace, from 1.
        last: the last step that is over.
    """

    def __init__(self, tokenizer: Any | None) -> None:
        self.run = 0
        self.last: CaughtStep | None = None
        self._texts = TokenTexts(tokenizer)
        self._tokens: dict[int, TokenText] = {}
        self._decoder = 0
        self._states_after: dict[int, str] = {}
        self._finished: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._finished_before_last = self._finished

    @property
    def tokens(self) -> Mapping[int, TokenText]:
        """Texts of the tokens that were mentioned so far."""
        return MappingProxyType(self._tokens)

    def begin(self, header: RunHeader, decoder: int, number: int) -> None:
        """A run starts.

        Args:
            header: its header.
            decoder: index of the module whose output are the hidden states.
            number: its number in the trace.
        """
        self.run = number
        self.last, self._decoder, self._states_after = None, decoder, {}
        self._finished = self._finished_before_last = np.zeros(len(header.prompt), dtype=np.bool_)
        self.learn(token for row in header.prompt for token in row.token_ids)

    def over(self, caught: CaughtStep) -> None:
        """A step is over."""
        before, self.last = self.last, caught.copy()
        # A step and the one before can be asked for; each is said to follow from the draw before it.
        self._states_after = {
            each.number: digest(each.rng.after) for each in (before, caught) if each and each.rng
        }
        done = as_array(caught.tensors.done)
        self._finished_before_last = self._finished
        self._finished = self._finished if done is None else self._finished | done

    def look_up(self, texts: Iterable[str]) -> None:
        """Learn which tokens have these texts, alone or after a space."""
        self.learn(self._texts.ids_of(texts))

    def learn(self, ids: Iterable[int]) -> None:
        """Learn the texts of tokens."""
        self._tokens.update((token.id, token) for token in self._texts.new(ids))

    def text(self, ids: Sequence[int]) -> str:
        """The text of a sequence, special tokens left out; empty without a tokenizer."""
        return self._texts.decode(ids)

    def built(self, caught: CaughtStep, header: RunHeader, *, follows: bool = True) -> Step:
        """The record of a step, the one in progress or the last.

        Args:
            caught: the step.
            header: header of the run.
            follows: say that an RNG state follows from the draw before; else the record holds it whole.
        """
        is_last = self.last is not None and caught.number == self.last.number
        builder = StepBuilder(
            self.run,
            len(header.prompt),
            header.modules,
            self._texts,
            decoder=self._decoder,
            candidates=header.capture.candidates,
            finished=self._finished_before_last if is_last else self._finished,
            state_after=self._states_after.get(caught.number - 1, "") if follows else "",
        )
        step, new = builder.build(caught.copy())
        self._tokens.update((token.id, token) for token in new)
        return step

    def chosen(
        self, caught: CaughtStep, header: RunHeader, scores: Any | None
    ) -> tuple[Step, npt.NDArray[Any]] | None:
        """A step whose processors have run, its choice made as it is about to be.

        Args:
            caught: the step.
            header: header of the run.
            scores: ``next_token_scores`` to choose from where no choice is made.

        Returns:
            Its record, which holds the RNG state whole, and its raw logits ``[batch, vocab]``; None if
            not all processors have run.
        """
        stages = caught.tensors.scores
        drawing = header.do_sample and caught.rng is None
        if stages is None or len(stages) <= len(header.processors) or drawing:
            return None
        whole = caught.copy()
        chosen = whole.tensors.chosen
        if scores is not None and (chosen is None or (chosen == NO_TOKEN).any()):
            whole.tensors.chosen = coming_choice(scores, whole.rng)
        return self.built(whole, header, follows=False), to_host(stages[0])
