"""The books of a beam search: continuations and hypotheses by the rules of ``BeamSearchScorer``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from tracer.analysis.hypotheses import Hypotheses, Rules
from tracer.schema.beams import BeamRow, Continuation, Fate, Hypothesis


@dataclass(frozen=True)
class Given:
    """What a scorer is given in a step.

    Attributes:
        length: tokens of each sequence before the step.
        prompt: length of the prompt.
        scores: ``[batch, continuations]`` best first.
        tokens: the same shape.
        beams: the same shape: which beam of the row each continues, from 0.
        eos: ids that end a sequence.
        pad: id that fills up a row that is done.
        group: which group of each row it is about.
    """

    length: int
    prompt: int
    scores: list[list[float]]
    tokens: list[list[int]]
    beams: list[list[int]]
    eos: frozenset[int]
    pad: int
    group: int = 0

    @staticmethod
    def read(arguments: Mapping[str, Any]) -> Given:
        """The arguments of ``process``.

        Args:
            arguments: by name.
        """
        return Given(
            length=arguments["input_ids"].shape[1],
            prompt=arguments.get("decoder_prompt_len") or 0,
            scores=arguments["next_scores"].tolist(),
            tokens=arguments["next_tokens"].tolist(),
            beams=arguments["next_indices"].tolist(),
            eos=_ids(arguments.get("eos_token_id")),
            pad=next(iter(_ids(arguments.get("pad_token_id"))), 0),
            group=arguments.get("group_index") or 0,
        )


def _ids(found: Any) -> frozenset[int]:
    if found is None:
        return frozenset()
    return frozenset(torch.as_tensor(found).flatten().tolist())


class Advances(Protocol):
    """What the scorer of a constrained search found out about one row of the batch in a step."""

    @property
    def met(self) -> Sequence[bool]:
        """Whether each continuation that ended meets its constraints, where the scorer asked."""

    def rearranged(
        self, found: Sequence[Continuation], first: int, running: Sequence[float]
    ) -> list[Continuation]:
        """The continuations with those that advance a constraint, once it is decided which go on.

        Args:
            found: the continuations, as they would go on without constraints.
            first: the first row of the step that is one of these beams.
            running: score of each row before the step.
        """


class Book(Hypotheses):
    """The hypotheses of one row of the batch, or of one group of it.

    Args:
        number: its number; the rows of a step that it has begin at this times the beams of a book.
        of_row: all hypotheses of the row of the batch, those of its other groups among them.
    """

    def __init__(self, number: int, of_row: list[Hypothesis]) -> None:
        super().__init__(of_row)
        self._number = number

    def step(
        self,
        rules: Rules,
        step: int,
        row: int,
        given: Given,
        running: list[float],
        advances: Advances | None = None,
    ) -> BeamRow:
        """Decide about the continuations of a step.

        Args:
            rules: the scorer's settings.
            step: number of the step.
            row: row of the batch.
            given: what the scorer is given.
            running: score of each row before the step.
            advances: in constrained search, what the scorer found out of its constraints.
        """
        if self.done:
            return self._row((), (), (), None)
        known, before = len(self._all), [*self._kept]
        found = self._continuations(rules, step, row, given, running, advances)
        if advances is not None:
            found = advances.rearranged(found, self._number * rules.beams, running)
        length = given.length + 1 - given.prompt
        attainable = self.close(rules, max(given.scores[row]), length, given.prompt)
        ended = tuple(each for each in self._all[known:] if each in self._kept)
        gone = tuple(each.number for each in before if each not in self._kept)
        return self._row(tuple(found), ended, gone, attainable)

    def _row(
        self,
        found: tuple[Continuation, ...],
        ended: tuple[Hypothesis, ...],
        gone: tuple[int, ...],
        attainable: float | None,
    ) -> BeamRow:
        return BeamRow(
            continuations=found,
            ended=ended,
            pushed_out=gone,
            kept=len(self._kept),
            worst=min(self.values, default=None),
            attainable=attainable,
            done=self.done,
        )

    def _continuations(
        self,
        rules: Rules,
        step: int,
        row: int,
        given: Given,
        running: list[float],
        advances: Advances | None,
    ) -> list[Continuation]:
        found: list[Continuation] = []
        full, first = 0, self._number * rules.beams
        met = iter(() if advances is None else advances.met)
        for rank, (score, token, beam) in enumerate(
            zip(given.scores[row], given.tokens[row], given.beams[row], strict=True)
        ):
            parent, goes_on = first + beam, None
            fate: Fate
            if full == rules.beams:
                fate = "cut"
            elif token not in given.eos:
                fate, goes_on, full = "beam", first + full, full + 1
            elif rank >= rules.beams:
                fate = "too late"
            elif not next(met, True):
                fate = "unmet"
            else:
                length = given.length + 1 - given.prompt
                fate = "hypothesis" if self.add(rules, step, parent, token, score, length) else "rejected"
            found.append(
                Continuation(
                    parent=parent,
                    token=token,
                    before=running[parent],
                    log_probability=None,
                    score=score,
                    fate=fate,
                    row=goes_on,
                )
            )
        return found
