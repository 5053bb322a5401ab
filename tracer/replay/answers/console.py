"""What a debug console, a watch or a hover is answered: a variable, the condition language, a question."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from tracer.analysis.conditions.condition import value_of
from tracer.analysis.conditions.names import FUNCTIONS, NAMES
from tracer.analysis.conditions.step_row import StepRow
from tracer.errors import UsageError
from tracer.replay.answers.names import look_up, root_name, unknown_name
from tracer.replay.answers.questions import answer_why, as_text, other_settings
from tracer.replay.moment import Moment
from tracer.replay.values.library import FrameKind, later_variables, local_variables
from tracer.replay.values.value import Make, Value

STEP = re.compile(r"step\s+(\d+)")
"""Goes to a step; ``step == 12`` is a condition."""

_FORK = re.compile(r"\s*fork\b")

HELP = (
    "A variable of the library with dots and brackets, e.g. outputs.logits[:, -1].shape\n"
    'A condition or a part of one, e.g. p_chosen < 0.3, entropy, removed("Large")\n'
    "why [TOKEN]         why a token was chosen in this step, or not\n"
    "whatif NAME=VALUE … what other settings would choose in this step\n"
    "step N              go to the first stop of a step\n"
)

_LATER = " (assigned later in this step)"


@dataclass(frozen=True)
class Asked:
    """Where something is asked.

    Attributes:
        moment: where the journey stands.
        frame: in which frame.
        row: row of the batch.
        styled: whether the answer may have colours.
    """

    moment: Moment
    frame: FrameKind
    row: int
    styled: bool = False

    @property
    def variables(self) -> dict[str, Make]:
        """The variables of the frame."""
        return local_variables(self.moment, self.frame)


def answer(asked: Asked, text: str) -> Value:
    """The value of an expression, or the answer to a question.

    Args:
        asked: where it is asked.
        text: what is asked.

    Raises:
        UsageError: it is none of the things that a recording can answer.
        TraceFileError: the trace is damaged.
    """
    if _FORK.match(text):
        raise UsageError("fork: a recording is not changed; trace-generate fork goes on from it another way.")
    word, _, argument = text.strip().partition(" ")
    question = _QUESTIONS.get(word)
    if question is not None:
        return Value(question(asked, argument.strip()))
    root = root_name(text)
    if root is not None and root not in NAMES and root not in FUNCTIONS:
        return _variable(asked, root, text)
    moment = asked.moment
    return Value(value_of(text, StepRow(moment.step, moment.header, moment.tokens, asked.row)))


def console_completions(asked: Asked, text: str) -> Iterable[str]:
    """Names that complete the last word of a text.

    Args:
        asked: where it is asked.
        text: the text up to the cursor.
    """
    found = re.search(r"[A-Za-z_]\w*$", text)
    start = found[0] if found else ""
    names = (*asked.variables, *NAMES, *FUNCTIONS, *_QUESTIONS, "step")
    return sorted({name for name in names if name.startswith(start)})


def _variable(asked: Asked, root: str, text: str) -> Value:
    now = asked.variables
    if root in now:
        return look_up(text, now)
    later = later_variables(asked.moment)
    if root not in later:
        raise unknown_name(root, (*later, *NAMES, *FUNCTIONS))
    found = look_up(text, later)
    return _remarked(found)


def _remarked(value: Value) -> Value:
    """The same value, with the remark that it is not assigned yet."""
    return replace(value, text=f"{value.text}{_LATER}")


_QUESTIONS: Mapping[str, Callable[[Asked, str], str]] = {
    "why": lambda asked, text: as_text(answer_why(asked.moment, asked.row, text), styled=asked.styled),
    "whatif": lambda asked, text: as_text(other_settings(asked.moment, text), styled=asked.styled),
    "help": lambda _asked, _text: HELP,
}
