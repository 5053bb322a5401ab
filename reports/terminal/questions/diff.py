"""Two runs compared, on a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Column, Page, PageRenderable
from reports.terminal.questions.remarks import draw_remarks, draw_title
from reports.terminal.stops.card import draw_rule
from reports.terminal.words import token_with_id
from reports.view.figures import count
from reports.view.questions.diff import DiffLogits, DiffNumber, DiffToken, DiffView

_MAX_STEPS = 12
"""How many steps are listed with the distance of their logits."""


def render_diff(view: DiffView) -> RenderableType:
    """Two runs compared.

    Args:
        view: the comparison in words.
    """

    def draw(page: Page) -> None:
        draw_rule(page, "Two runs")
        for letter, name in zip("AB", view.names, strict=True):
            page.wrapped(Text.styled(f"{letter} ", theme.NUMBER).append(name, theme.NAME), hanging=2)
        sign, style = theme.LEVELS["ok" if view.same else "error"]
        page.blank()
        page.wrapped(Text.styled(f"{sign}{view.headline}", style), hanging=len(sign))
        page.wrapped(Text(view.explanation))
        page.wrapped(Text.styled(view.steps, theme.QUIET))
        _draw_facts(page, view)
        for token in view.tokens:
            _draw_token(page, token)
        for number in view.numbers:
            _draw_number(page, number)
        _draw_logits(page, view.logits)
        draw_remarks(page, view.notes)

    return PageRenderable(draw)


def _draw_facts(page: Page, view: DiffView) -> None:
    if not view.facts:
        return
    draw_title(page, "what differs before the first step")
    page.columns(
        [
            Column([Text.styled(fact.name, theme.NAME) for fact in view.facts], ""),
            Column([Text(fact.a) for fact in view.facts], "A", limit=34),
            Column([Text(fact.b) for fact in view.facts], "B", limit=34),
        ]
    )


def _draw_token(page: Page, token: DiffToken) -> None:
    draw_title(page, f"the first differing token: step {token.step}, {token.rows}")
    page.columns(
        [
            Column([Text.styled(letter, theme.NUMBER) for letter in "AB"]),
            Column([token_with_id(each) for each in (token.a, token.b)]),
            Column([Text(f"probability {each}") for each in (token.probability_a, token.probability_b)]),
        ]
    )
    if token.gaps:
        page.wrapped(Text.styled(token.gaps, theme.QUIET))
    if token.draw:
        page.wrapped(Text.styled(token.draw, theme.QUIET))


def _draw_number(page: Page, number: DiffNumber) -> None:
    draw_title(page, number.title)
    page.wrapped(Text(number.where))
    page.wrapped(
        Text.styled(f"{number.quantity}: ", theme.NAME).append(f"A {number.a}, B {number.b}", theme.VALUE)
    )
    style = theme.REMOVED if number.beyond else theme.QUIET
    page.wrapped(Text(f"apart by {number.size}; ").append(number.verdict, style))


def _draw_logits(page: Page, logits: tuple[DiffLogits, ...]) -> None:
    if not logits:
        return
    draw_title(page, "distance of the raw logits")
    shown = logits[:_MAX_STEPS]
    page.columns(
        [
            Column([Text(str(each.step)) for each in shown], "step", "right"),
            Column([Text(each.rows) for each in shown], "rows"),
            Column([Text(each.divergence) for each in shown], "KL divergence, nats", "right"),
            Column([Text(each.largest) for each in shown], "largest difference", "right"),
        ]
    )
    if len(logits) > len(shown):
        page.line(
            Text.styled(f"and {count(len(logits) - len(shown))} more (--json lists all)", theme.QUIET), INDENT
        )
