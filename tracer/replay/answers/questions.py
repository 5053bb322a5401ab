"""``why`` and ``whatif`` for the step of a halt, as text."""

from __future__ import annotations

import io
import re

from rich.console import Console, RenderableType

from reports.terminal.questions.whatif import render_whatif
from reports.terminal.questions.why import render_why
from reports.view.questions.whatif import whatif_view
from reports.view.questions.why import why_view
from tracer.analysis.processors.settings import Settings
from tracer.analysis.processors.settings_in_force import header_in_force
from tracer.analysis.runs import check_row, chosen_token, saved_logits
from tracer.analysis.token_search import one_token
from tracer.analysis.whatif import whatif
from tracer.analysis.why import why
from tracer.errors import UsageError
from tracer.halting.run_so_far import RunSoFar
from tracer.replay.moment import Moment
from tracer.schema.run import RunEnd, RunStatus
from tracer.stepper.commands import parse_settings, parse_token

WIDTH = 100
"""Columns of a text for a debug console."""

_LINK = re.compile("\x1b]8;[^\x1b]*\x1b\\\\")
"""Begins or ends a link in a terminal."""


def as_text(*what: RenderableType, styled: bool = False) -> str:
    """What the terminal would show, as text.

    Args:
        what: views that were laid out for the terminal.
        styled: with the escape sequences of colours, else plain.
    """
    text = io.StringIO()
    console = Console(
        file=text,
        width=WIDTH,
        force_terminal=styled,
        color_system="standard" if styled else None,
        no_color=not styled,
        # Without a colour of its own a text has that of a message, or of a value: blue, or grey.
        style="white" if styled else "",
        highlight=False,
    )
    for each in what:
        console.print(each)
    # A debug console knows colours and no links.
    return _LINK.sub("", text.getvalue())


def answer_why(moment: Moment, row: int, argument: str) -> RenderableType:
    """Why a token was chosen or not in the step of a moment.

    Args:
        moment: the moment.
        row: the row that is meant where the argument names none.
        argument: ``TOKEN`` or ``TOKEN row N``; empty for the token that was chosen.

    Raises:
        UsageError: no token matches, or several do; or the scores were not recorded.
    """
    query, named = parse_token(argument, moment.rows)
    row = row if named is None else named
    check_row(moment.header, row)
    token = one_token(query, moment.tokens) if query else chosen_token(moment.step, row)
    if token is None:
        raise UsageError("the scores of this step were not recorded")
    number = moment.position.step
    history, logits = moment.shelf.history(number, row), saved_logits(moment.run, number)
    report = why(moment.header, moment.step, token, row, tokens=moment.tokens, logits=logits, history=history)
    return render_why(why_view(report, moment.tokens))


def other_settings(moment: Moment, argument: str) -> RenderableType:
    """What other settings would choose in the step of a moment.

    Args:
        moment: the moment.
        argument: ``NAME=VALUE …``.

    Raises:
        UsageError: a setting is impossible, or the scores were not recorded.
    """
    settings = Settings.of(parse_settings(argument))
    if not settings.changes:
        raise UsageError("whatif needs settings: whatif temperature=1 top_k=5")
    step = moment.step
    rows = (moment.shelf.history(step.number, row) for row in range(moment.rows))
    sequences = tuple(tuple(ids.tolist()) for ids in rows)
    end = RunEnd(status=RunStatus.INTERRUPTED, steps=step.number, seconds=0.0, sequences=sequences)
    alone = RunSoFar(header_in_force(moment.header, step), [step], moment.tokens, end, moment.run)
    return render_whatif(whatif_view(whatif(alone, settings), moment.tokens, steps=lambda _: True))
