"""Hit conditions: the how manieth time a breakpoint halts."""

from __future__ import annotations

import re

from tracer.analysis.conditions.condition import parse_condition
from tracer.replay.moment import Moment

NAME = "hits"
"""Stands for the number of times so far, this one included."""


class HitCondition:
    """A condition on how often a breakpoint was met.

    Args:
        text: ``5`` (the fifth time only), ``> 5``, ``% 3`` (every third time), or a condition on ``hits``.

    Raises:
        UsageError: it is none of these.
    """

    def __init__(self, text: str) -> None:
        self.text = _spelled_out(text.strip())
        parse_condition(self.text, {NAME: 1})

    def holds(self, hits: int, moment: Moment) -> bool:
        """Whether the breakpoint halts this time.

        Args:
            hits: how often it was met from the beginning of the recording to this moment.
            moment: the moment.
        """
        condition = parse_condition(self.text, {NAME: hits})
        return condition.holds(moment.step, moment.header, moment.tokens)


def _spelled_out(text: str) -> str:
    if re.fullmatch(r"\d+", text):
        return f"{NAME} == {text}"
    if re.fullmatch(r"%\s*\d+", text):
        return f"{NAME} {text} == 0"
    return f"{NAME} {text}" if text[:1] in tuple("=!<>%") else text
