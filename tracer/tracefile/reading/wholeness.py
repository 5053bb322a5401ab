"""Whether a run holds all that happened in it: steps against ids, choices against ids, capture errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tracer.schema.beams import Hypothesis
from tracer.schema.hypothesis_path import hypothesis_path
from tracer.schema.lineage import Parents
from tracer.schema.run import RunEnd, RunHeader, RunStatus
from tracer.schema.step import Step


class Wholeness:
    """Follows the steps of a run in order.

    Where a processor wrote into the ids, they need not be those of the choices.

    Args:
        header: the run's header.
        end: its end record; None while it has none.
    """

    def __init__(self, header: RunHeader, end: RunEnd | None) -> None:
        self._prompt = tuple(row.token_ids for row in header.prompt)
        self._length = len(self._prompt[0])
        self._end = end
        self._sequences = end.sequences if end is not None else ()
        self._unfinished = end is None or end.status is not RunStatus.COMPLETE
        self._steps = 0
        self._tokens = 0
        self._last = 0
        self._without_scores: list[int] = []
        self._other_choices = 0
        self._first_choice = ""
        self._errors = 0
        self._first_error = ""
        self._beams = _Hypotheses(header) if header.rows_move else None
        self._rewritten = False
        self._most_in_step = math.inf if header.proposes else 1

    def add(self, step: Step) -> None:
        """The next step."""
        self._steps += 1
        self._last = step.number
        self._rewritten |= any(each.kind == "ids" for each in step.head.interventions)
        if step.scores is None:
            self._without_scores.append(step.number)
        elif self._beams is not None:
            self._beams.add(step)
        else:
            self._compare_choices(step, step.scores.chosen.tolist())
        self._tokens += max(1, len(step.appended()))
        errors = step.head.errors
        if errors and not self._errors:
            self._first_error = f"in step {step.number}: {errors[0].message}"
        self._errors += len(errors)

    def gaps(self) -> tuple[str, ...]:
        """What is not there, or does not fit, one line each; empty for a whole run."""
        found = [*self._ids_against_steps()]
        # A run that was cut short may end with a step that came to no choice.
        missing = [
            number for number in self._without_scores if not (self._unfinished and number == self._last)
        ]
        if missing:
            found.append(f"the scores of {len(missing)} of {self._steps} steps were not recorded")
        if self._other_choices and not self._rewritten:
            found.append(
                f"{self._other_choices} choices are not the run's ids, the first {self._first_choice}"
            )
        if self._errors:
            what = "capture error" if self._errors == 1 else "capture errors"
            found.append(f"{self._errors} {what}, the first {self._first_error}")
        return tuple(found)

    def _ids_against_steps(self) -> list[str]:
        if self._end is None:
            return []
        steps = max(self._end.steps, self._last)
        if not self._sequences:
            return ["its end record has no ids"] if steps else self._without_steps(steps)
        if self._beams is not None and not self._rewritten:
            return [*self._beams.against(self._end), *self._without_steps(steps)]
        if self._beams is not None:
            return self._without_steps(steps)
        tokens = len(self._sequences[0]) - self._length
        if not self._begin_with_prompt():
            return ["its ids do not begin with its prompt"]
        # One that was cut short may have appended tokens in a step that it did not end, or begun one.
        least, most = (1, self._most_in_step) if self._unfinished else (0, 0)
        appended = steps - self._steps + self._tokens
        if not appended - least <= tokens <= appended + most:
            return [f"{steps} steps for {tokens} generated tokens"]
        return self._without_steps(steps)

    def _begin_with_prompt(self) -> bool:
        pairs = zip(self._sequences, self._prompt, strict=True)
        return self._rewritten or all(ids[: self._length] == prompt for ids, prompt in pairs)

    def _without_steps(self, steps: int) -> list[str]:
        return [] if steps or self._unfinished else ["it ended without a step"]

    def _compare_choices(self, step: Step, chosen: list[int]) -> None:
        """Compare the tokens of a step with the ids at its place; it has none where the run was cut short."""
        number = step.number
        place = self._length + number - 1
        if step.head.assisted is not None:
            place = step.head.ids_before.shape[1] + len(step.appended()) - 1
        for row, (token, ids) in enumerate(zip(chosen, self._sequences, strict=False)):
            if place < len(ids) and ids[place] != token:
                if not self._other_choices:
                    self._first_choice = f"in step {number}, row {row}: token {token}, not {ids[place]}"
                self._other_choices += 1


class _Hypotheses:
    """The sequences of a beam search, put together from its steps.

    Args:
        header: the run's header.
    """

    def __init__(self, header: RunHeader) -> None:
        self._prompt = tuple(row.token_ids for row in header.prompt)
        self._parents: list[Parents] = []
        self._chosen: list[list[int]] = []

    def add(self, step: Step) -> None:
        """The next step."""
        assert step.scores is not None
        self._parents.append(step.parents)
        self._chosen.append(step.scores.chosen.tolist())

    def against(self, end: RunEnd) -> list[str]:
        """What of the sequences returned is not what the steps lead to."""
        if end.beams is None:
            return [] if end.status is not RunStatus.COMPLETE else ["its end record has no hypotheses"]
        each = len(end.sequences) // max(len(end.beams.rows), 1)
        found = [
            (row * each + place, outcome.hypotheses[number])
            for row, outcome in enumerate(end.beams.rows)
            # A place that no hypothesis has taken is returned too, behind those that one has.
            for place, number in enumerate(outcome.returned)
        ]
        if any(hypothesis.step > len(self._chosen) for _, hypothesis in found):
            return ["a hypothesis ended in a step that is not there"]
        wrong = next((row for row, hypothesis in found if not self._is(end.sequences[row], hypothesis)), None)
        return [] if wrong is None else [f"sequence {wrong} is not that of its hypothesis"]

    def _is(self, ids: Sequence[int], hypothesis: Hypothesis) -> bool:
        """Whether ids are those of a hypothesis, behind which a row is filled up."""
        whole = hypothesis_path(hypothesis, self._prompt, self._parents, self._chosen).ids
        # Behind them the library puts the first id that may end a sequence, whichever one did.
        return whole == tuple(ids[: len(whole)])
