"""The hypotheses of a beam search, kept by the rules of ``BeamHypotheses``: in a run as in a what-if."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tracer.schema.beams import BeamOutcome, EarlyStopping, Hypothesis


@dataclass(frozen=True)
class Rules:
    """The settings of a scorer.

    Attributes:
        beams: beams that are searched together: those of a row, or of a group of it.
        length_penalty: exponent of the length.
        early_stopping: True, False or ``never``.
        max_length: longest sequence.
    """

    beams: int
    length_penalty: float
    early_stopping: bool | str
    max_length: int | None

    @property
    def setting(self) -> EarlyStopping:
        """The setting ``early_stopping`` as text."""
        return "never" if isinstance(self.early_stopping, str) else "True" if self.early_stopping else "False"

    def value(self, total: float, length: int) -> float:
        """The value by which hypotheses are compared.

        Args:
            total: sum of the log-probabilities.
            length: number of tokens that were generated.

        Raises:
            OverflowError: no float holds the power of the length.
            ZeroDivisionError: the power of the length is 0 in a float.
        """
        return total / float(length**self.length_penalty)

    def attainable(self, total: float, length: int, prompt: int) -> float | None:
        """The best value that a beam is taken to come to; None where that is not asked.

        Args:
            total: the best sum of a beam.
            length: number of tokens that were generated.
            prompt: length of the prompt.
        """
        if self.early_stopping is True:
            return None
        longest = self.early_stopping is not False and self.length_penalty > 0
        return self.value(total, (self.max_length or 0) - prompt if longest else length)


class Hypotheses:
    """The hypotheses of one row of the batch, or of one group of it.

    Args:
        of_row: all hypotheses of the row of the batch, those of its other groups among them; new ones are
            added to it.

    Attributes:
        done: whether it takes no further hypothesis.
    """

    def __init__(self, of_row: list[Hypothesis]) -> None:
        self.done = False
        self._all = of_row
        self._kept: list[Hypothesis] = []
        self._worst = 1e9

    @property
    def values(self) -> list[float]:
        """Values of the hypotheses kept, in the order in which they ended."""
        return [each.value for each in self._kept]

    @property
    def kept(self) -> tuple[Hypothesis, ...]:
        """The hypotheses kept, in the order in which they ended."""
        return tuple(self._kept)

    def add(
        self,
        rules: Rules,
        step: int,
        row: int,
        token: int | None,
        total: float,
        length: int,
        *,
        unmet: bool = False,
    ) -> bool:
        """A sequence ends.

        Args:
            rules: the scorer's settings.
            step: the step in which it ends.
            row: row that it is (see :class:`Hypothesis`).
            token: the token that ends it; None for one that is open when the run ends.
            total: sum of its log-probabilities.
            length: number of tokens that the length penalty counts.
            unmet: whether it does not meet its constraints.

        Returns:
            Whether it is kept.
        """
        value = rules.value(total, length)
        if len(self._kept) >= rules.beams and not value > self._worst:
            return False
        new = Hypothesis(
            number=len(self._all),
            step=step,
            row=row,
            token=token,
            total=total,
            length=length,
            value=value,
            unmet=unmet,
        )
        self._all.append(new)
        self._kept.append(new)
        if len(self._kept) > rules.beams:
            self._kept.remove(min(self._kept, key=lambda each: each.value))
            self._worst = min(self.values)
        else:
            self._worst = min(value, self._worst)
        return True

    def add_open(
        self,
        rules: Rules,
        step: int,
        beams: Mapping[int, float],
        length: int,
        *,
        met: Collection[int] | None = None,
        returned: int = 1,
    ) -> None:
        """Beams that are open when the run ends become hypotheses.

        With constraints those do that meet them, and the others where these are fewer than are returned.

        Args:
            rules: the scorer's settings.
            step: the last step.
            beams: their scores, by the row that each is.
            length: number of tokens that the length penalty counts.
            met: the rows that meet their constraints; None without constraints.
            returned: how many hypotheses of a row ``generate()`` returns.
        """
        meeting = {row: total for row, total in beams.items() if met is None or row in met}
        for row, total in meeting.items():
            self.add(rules, step, row, None, total, length)
        if len(meeting) < returned:
            for row, total in beams.items():
                if row not in meeting:
                    self.add(rules, step, row, None, total, length, unmet=True)

    def close(self, rules: Rules, best: float, length: int, prompt: int) -> float | None:
        """A step is over: once enough hypotheses are kept, it is done if no beam can come to a better one.

        Args:
            rules: the scorer's settings.
            best: the best sum of a beam.
            length: number of tokens that were generated.
            prompt: length of the prompt.

        Returns:
            The best value that a beam is taken to come to; None where that was not asked.
        """
        if len(self._kept) < rules.beams:
            return None
        attainable = rules.attainable(best, length, prompt)
        self.done = attainable is None or self._worst >= attainable
        return attainable


def outcome(of_row: Sequence[Hypothesis], of_groups: Sequence[Hypotheses], returned: int) -> BeamOutcome:
    """What a row of the batch has in the end.

    Args:
        of_row: all of its hypotheses.
        of_groups: what its groups keep, or what the only one does.
        returned: how many hypotheses ``generate()`` returns.
    """
    kept = [each for found in of_groups for each in found.kept]
    best = sorted(kept, key=lambda each: each.value)[::-1][:returned]
    return BeamOutcome(
        hypotheses=tuple(of_row),
        kept=tuple(each.number for each in kept),
        returned=tuple(each.number for each in best),
    )
