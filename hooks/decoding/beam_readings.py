"""What passes through the methods in which a beam search without a scorer decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hooks.tensors import clone, to_host, to_host_all

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]
Booleans = npt.NDArray[np.bool_]

OUT = -1e9
"""What the library adds to the score of what must not be chosen."""


@dataclass
class SeenTensors:
    """What a step's methods were given and returned, on the devices where it is.

    The library makes new tensors in each step and changes none of these, so that most are no copies.

    Attributes:
        values: tensors by the names of the fields of :class:`Decided`.
        criteria: answer of each stopping criterion about all continuations, by its number.
        length: tokens of each sequence before the step.
        prompt: tokens of the prompt.
        beams: sequences, scores and beam indices of the beams after the step, once they are chosen.
        hypotheses: sequences, values, beam indices and state of the hypotheses, once they are.
    """

    values: dict[str, torch.Tensor] = field(default_factory=dict)
    criteria: dict[int, torch.Tensor] = field(default_factory=dict)
    length: int = 0
    prompt: int = 0
    beams: tuple[torch.Tensor, ...] = ()
    hypotheses: tuple[torch.Tensor, ...] = ()

    @property
    def sequences(self) -> torch.Tensor:
        """``[rows, length + 1]`` the beams after the step."""
        return self.beams[0][..., : self.length + 1].flatten(0, 1)

    @property
    def decided(self) -> bool:
        """Whether it is known which continuations go on, and which hypotheses are kept."""
        return "kept_values" in self.values

    def chose(self, arguments: Mapping[str, Any], result: Any, *, sampling: bool) -> None:
        """Continuations were chosen.

        Args:
            arguments: of ``_get_top_k_continuations``.
            result: their scores ``[batch, continuations]``, sequences and beam indices.
            sampling: whether they were drawn.
        """
        scores, sequences, indices = result
        self.length, self.prompt = arguments["cur_len"], arguments["decoder_prompt_len"]
        self.values["scores"] = scores
        self._put("", sequences, indices)
        if not sampling:
            worst = scores.min(dim=-1, keepdim=True).values
            self.values["better"] = (arguments["accumulated_log_probs"] > worst).sum(dim=-1)

    def answered(self, done: torch.Tensor) -> None:
        """All stopping criteria have answered.

        Args:
            done: their common answer ``[batch · continuations]``.
        """
        self.values["ended"] = clone(done).view(self.values["scores"].shape)

    def go_on(self, result: Any) -> None:
        """Beams were chosen.

        Args:
            result: sequences, scores ``[batch, beams]`` and beam indices.
        """
        self.beams = result
        sequences, self.values["next_scores"], indices = result
        self._put("next_", sequences, indices)

    def kept(self, arguments: Mapping[str, Any], result: Any) -> None:
        """Hypotheses were chosen.

        Args:
            arguments: of ``_update_finished_beams``.
            result: sequences, values ``[batch, beams]``, beam indices and which of them are hypotheses.
        """
        self.values |= {
            "values_before": arguments["beam_scores"],
            "finished_before": arguments["is_sent_finished"],
            "improvable_before": arguments["is_early_stop_heuristic_unsatisfied"],
        }
        self.keep(result)

    def keep(self, hypotheses: tuple[torch.Tensor, ...]) -> None:
        """Hypotheses are kept; each is known by its steps, the row of the last of them, and its last token.

        Args:
            hypotheses: sequences, values ``[batch, beams]``, beam indices and which of them are hypotheses.
        """
        self.hypotheses = hypotheses
        sequences, values, indices, finished = hypotheses
        lengths = (indices >= 0).sum(dim=-1)
        last, at = (lengths[..., None] + before - 1 for before in (0, self.prompt))
        self.values |= {
            # Copies, as the user may end the run, and these are changed then.
            "kept_finished": clone(finished),
            "kept_lengths": lengths,
            "kept_parents": indices.gather(-1, last.clamp(0))[..., 0],
            "kept_tokens": sequences.gather(-1, at.clamp(0))[..., 0],
            "kept_values": clone(values),
        }

    def improvable(self, result: torch.Tensor) -> None:
        """It was asked of which rows of the batch a beam may still be better than a hypothesis.

        Args:
            result: ``[batch, 1]`` answers.
        """
        self.values["improvable"] = result

    def unfinished(self, result: torch.Tensor) -> None:
        """It was asked whether there is another step.

        Args:
            result: the answer.
        """
        self.values["unfinished"] = result.reshape(1)

    def on_host(self, before: Floats | None) -> Decided:
        """The same on the host; this waits for a GPU, as the loop does next.

        Args:
            before: ``[batch, beams]`` scores before the step; None before the first.
        """
        names = [*self.values]
        copies = to_host_all([*self.values.values(), *self.criteria.values()])
        found: dict[str, Any] = {name: to_host(each) for name, each in zip(names, copies, strict=False)}
        shape = found["scores"].shape
        answers = [to_host(tensor).reshape(shape) for tensor in copies[len(names) :]]
        return Decided(
            length=self.length,
            prompt=self.prompt,
            before=_not_begun(found["next_scores"].shape) if before is None else before,
            criteria=dict(zip(self.criteria, answers, strict=True)),
            **found,
        )

    def _put(self, prefix: str, sequences: torch.Tensor, indices: torch.Tensor) -> None:
        """The last token of each sequence, and the row that it continues."""
        self.values[f"{prefix}tokens"] = sequences[..., self.length]
        self.values[f"{prefix}parents"] = indices[..., self.length - self.prompt]


def _not_begun(shape: tuple[int, ...]) -> Floats:
    """Scores before the first step: all beams but the first begin so low that none continues them."""
    scores = np.full(shape, OUT, dtype=np.float32)
    scores[:, 0] = 0
    return scores


@dataclass(frozen=True)
class Decided:
    """What the loop decided in a step, on the host.

    Attributes:
        length: tokens of each sequence before the step.
        prompt: tokens of the prompt.
        before: ``[batch, beams]`` scores of the rows before the step.
        scores: ``[batch, continuations]`` of the continuations chosen.
        tokens: the same shape.
        parents: the same shape: row of the step that each continues.
        ended: the same shape: whether a stopping criterion ends it.
        criteria: the same for each of them, by its number.
        next_scores: ``[batch, beams]`` of the beams after the step.
        next_tokens: the same shape.
        next_parents: the same shape.
        values_before: ``[batch, beams]`` values of the hypotheses kept before the step.
        finished_before: the same shape: whether they are hypotheses, and not mere places for them.
        improvable_before: ``[batch, 1]`` whether the row took hypotheses.
        kept_values: like ``values_before``, after the step.
        kept_finished: the same.
        kept_lengths: the same shape: generated tokens, which are as many as the steps that made them.
        kept_parents: the same shape: row that each continued in the last of them.
        kept_tokens: the same shape: its last token.
        better: ``[batch]`` how many continuations are better than the worst one chosen; None where they are
            drawn.
        improvable: like ``improvable_before``, after the step; None until it is known.
        unfinished: ``[1]`` whether there is another step; None until it is known.
    """

    length: int
    prompt: int
    before: Floats
    criteria: Mapping[int, Booleans]
    scores: Floats
    tokens: Integers
    parents: Integers
    ended: Booleans
    next_scores: Floats
    next_tokens: Integers
    next_parents: Integers
    values_before: Floats
    finished_before: Booleans
    improvable_before: Booleans
    kept_values: Floats
    kept_finished: Booleans
    kept_lengths: Integers
    kept_parents: Integers
    kept_tokens: Integers
    better: Integers | None = None
    improvable: Booleans | None = None
    unfinished: Booleans | None = None

    @property
    def generated(self) -> int:
        """Generated tokens of each sequence after the step."""
        return self.length + 1 - self.prompt

    @property
    def beams(self) -> int:
        """Beams of each row of the batch."""
        return len(self.next_scores[0])

    def place(self, row: int, parent: int, token: int) -> int | None:
        """Place of a continuation among those chosen; None where it is not there.

        Args:
            row: row of the batch.
            parent: row of the step that it continues.
            token: its token.
        """
        found = np.flatnonzero((self.parents[row] == parent) & (self.tokens[row] == token))
        return int(found[0]) if len(found) else None

    def rows_without_order(self) -> set[int]:
        """Rows of the batch with scores that are NaN."""
        scores = np.concatenate([self.before, self.scores, self.next_scores], axis=1)
        return {*np.flatnonzero(np.isnan(scores).any(axis=1)).tolist()}

    def beams_of(self, row: int) -> tuple[list[int], list[int]]:
        """The beams after the step: the row that each continues, and its token.

        Args:
            row: row of the batch.
        """
        return self.next_parents[row].tolist(), self.next_tokens[row].tolist()

    def places(self) -> list[list[int | None]]:
        """Place of each beam after the step among the continuations, by row of the batch."""
        return [
            [self.place(row, *beam) for beam in zip(*self.beams_of(row), strict=True)]
            for row in range(len(self.scores))
        ]
