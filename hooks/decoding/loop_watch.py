"""Watches what only one decoding loop does; that of ``_sample``, which does nothing else, watches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import nn

from hooks.caught_step import CaughtStep, Checked
from hooks.modules.module_watch import Observer
from hooks.scores.stages import ScoreStages
from tracer.schema.beams import BeamEnd


class ScoreObserver(Protocol):
    """Receives scores and the answers of stopping criteria; must never raise."""

    def on_scores(self, stage: int, scores: torch.Tensor) -> None:
        """Scores ``[batch, vocab]`` before the first processor (stage 0) or after the stage-th."""

    def on_scores_done(self, scores: torch.Tensor) -> torch.Tensor:
        """The last warper has run; the choice is next.

        Returns:
            The scores to choose from: the same, unless the user changes this choice.
        """

    def on_appended(self, input_ids: torch.Tensor) -> None:
        """``input_ids`` ``[batch, length]`` with the chosen tokens, before the stopping criteria."""

    def on_criterion(self, index: int, done: Any) -> None:
        """The answer of one stopping criterion."""

    def on_stopping_done(self, done: torch.Tensor) -> torch.Tensor:
        """The criteria's common answer: ``[batch]`` booleans. The step is over.

        Returns:
            The answer for the loop: the same, or yes for every row where the user ends the run here.
        """


class LoopWatch(Protocol):
    """Sees what is particular to the loop of one run. Faults in its methods become capture errors."""

    scores_first: bool
    """Whether a step begins with the processors, before its forward pass."""

    unprobed: str | None
    """Why the optional captures of a forward pass do not apply; None where they do."""

    passes: int
    """How many forward passes, one after the other, are a step's own."""

    stacked: int
    """How many of them, the first, the loop stacks to one result; what follows them is not part of it."""

    def observers(self) -> Mapping[nn.Module, Observer]:
        """Modules whose outputs it has to see, each with what is called with them."""

    def prompt_pass(self, step: int) -> bool:
        """Whether a step has a forward pass over the prompt before the one that is the step's own.

        Args:
            step: its number, from 1.
        """

    def prepared(self, input_ids: torch.Tensor, inputs: Mapping[str, Any], length: int, number: int) -> None:
        """The step has begun, and now its own forward pass is prepared, or the next one of several.

        Args:
            input_ids: what it is prepared from.
            inputs: the arguments of the coming ``forward``.
            length: positions of each row before the step.
            number: how many of the step's own forward passes are over.
        """

    def updated(self, model_kwargs: Mapping[str, Any]) -> None:
        """The arguments of the next step are made.

        Args:
            model_kwargs: the arguments.
        """

    def begin(self) -> None:
        """The forward pass of a step starts."""

    def forwarded(self, outputs: Any) -> None:
        """It is over; where a step has several, each of them.

        Args:
            outputs: what it returned.
        """

    def first_scores(self, local: Mapping[str, Any]) -> torch.Tensor | None:
        """The scores that the processors will begin with, while the loop stands still before them.

        Args:
            local: locals of the loop.

        Returns:
            ``[batch, vocab]``; None where they are not computed yet.
        """

    def observer(self, capture: ScoreObserver) -> ScoreObserver:
        """What the lists of processors and criteria report to.

        Args:
            capture: what they report to in ``_sample``.
        """

    def helper_returned(self, method: str, arguments: Mapping[str, Any], result: Any) -> bool:
        """A method in which the loop decides has returned.

        Args:
            method: its name, one of the loop's ``helpers``.
            arguments: by name.
            result: what it returned.

        Returns:
            Whether the user ends the run here.
        """

    def end_early(self, others: Sequence[LoopWatch], result: Any) -> Any:
        """The user ends the run where such a method has returned, and all traces have seen it.

        Args:
            others: watches of other traces of the run.
            result: what it returned.

        Returns:
            What the loop gets instead.
        """

    def proposer_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What a candidate generator is made of: the program's own objects, and no stand-ins.

        Args:
            arguments: by name.
        """

    def proposer(self, made: Any) -> Any:
        """What proposes tokens, or a stand-in for it.

        Args:
            made: a candidate generator that the loop has made.
        """

    def scores(self) -> ScoreStages | None:
        """The scores of the step, where its processors run for several positions; None elsewhere."""

    def kept(self, fed: int) -> int:
        """How many of the positions that were fed the cache keeps.

        Args:
            fed: positions that went into the model.
        """

    def decided_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The sequences without what is only proposed.

        Args:
            input_ids: ``[batch, length]`` that inputs are prepared from.
        """

    def put(self, step: CaughtStep) -> None:
        """Put what was seen into the step, which is over or stands still."""

    def ending(self) -> BeamEnd | None:
        """What the loop has in the end beside its sequences."""

    def returned(self, output: Any, prompt: torch.Tensor) -> Checked | None:
        """The check of what the loop has returned; None where its sequences are those of its steps.

        Args:
            output: what it has returned.
            prompt: ``[rows, length]`` that it began with.
        """


_NOTHING: Mapping[nn.Module, Observer] = MappingProxyType({})


class OwnSequences:
    """What loops share that return the sequences of their steps, which are compared in the trace."""

    def returned(self, output: Any, prompt: torch.Tensor) -> Checked | None:
        """None."""
        return None


class NoHelpers(OwnSequences):
    """What loops share that decide in no methods of the model."""

    def helper_returned(self, method: str, arguments: Mapping[str, Any], result: Any) -> bool:
        """Nothing is seen."""
        return False

    def end_early(self, others: Sequence[LoopWatch], result: Any) -> Any:
        """The result itself."""
        return result


class PassFirst:
    """What loops share whose steps begin with a forward pass and make no other."""

    scores_first = False
    unprobed: str | None = None
    passes = stacked = 1

    def prompt_pass(self, step: int) -> bool:
        """No."""
        return False

    def prepared(self, input_ids: torch.Tensor, inputs: Mapping[str, Any], length: int, number: int) -> None:
        """A step begins with it."""

    def updated(self, model_kwargs: Mapping[str, Any]) -> None:
        """The capture reads them."""


class OnePosition(PassFirst, NoHelpers):
    """What loops share that choose one token of each row at a time."""

    def observer(self, capture: ScoreObserver) -> ScoreObserver:
        """The capture itself."""
        return capture

    def proposer_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """As they are."""
        return arguments

    def proposer(self, made: Any) -> Any:
        """The generator itself."""
        return made

    def scores(self) -> ScoreStages | None:
        """None: they are the capture's own."""
        return None

    def kept(self, fed: int) -> int:
        """All of them."""
        return fed

    def decided_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """All of them."""
        return input_ids


class PlainLoop(OnePosition):
    """The watch of ``_sample``: its processors begin with the model's own logits."""

    def observers(self) -> Mapping[nn.Module, Observer]:
        """None."""
        return _NOTHING

    def begin(self) -> None:
        """The forward pass of a step starts."""

    def forwarded(self, outputs: Any) -> None:
        """It is over."""

    def first_scores(self, local: Mapping[str, Any]) -> torch.Tensor | None:
        """The logits of the last position."""
        logits = getattr(local.get("outputs"), "logits", None)
        return None if logits is None else logits[:, -1, :]

    def put(self, step: CaughtStep) -> None:
        """There is nothing to put."""

    def ending(self) -> None:
        """Nothing."""
