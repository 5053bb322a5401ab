"""The run header."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Page, PageRenderable
from reports.terminal.stops.card import draw_heading, draw_rule
from reports.terminal.stops.variables import draw_tokens
from reports.view.figures import plural
from reports.view.run.header import Fact, HeaderView, PromptView

_TREE_LINES = 60
_PROMPT_LINES = 24
_ROWS = 4
_VALUE_CELLS = 16


def render_header(view: HeaderView, number: int = 1, *, same_model: bool = False) -> RenderableType:
    """The header of a run.

    Args:
        view: the header.
        number: number of the run.
        same_model: the model was shown with an earlier run and is not shown again.
    """

    def draw(page: Page) -> None:
        if number > 1:
            page.blank()
        draw_rule(
            page,
            f"Run {number}",
            view.model if view.model == view.class_name else f"{view.model}, {view.class_name}",
        )
        draw_heading(page, 0, "run header")
        if not same_model:
            _draw_title(page, "what the configuration says")
            _draw_facts(page, view.facts)
            _draw_title(page, "module tree, as print(model) shows it")
            _draw_lines(page, view.tree, _TREE_LINES, theme.QUIET)
        _draw_generation(page, view)
        for prompt in view.prompts[:_ROWS]:
            _draw_prompt(page, prompt, batch=len(view.prompts))
        if len(view.prompts) > _ROWS:
            page.line(Text.styled(f"… {plural(len(view.prompts) - _ROWS, 'more row')}", theme.QUIET), INDENT)
        versions = " · ".join(f"{fact.name} {fact.value}" for fact in view.versions)
        page.blank()
        page.wrapped(Text.styled(f"{versions} · started {view.started_at}", theme.QUIET))

    return PageRenderable(draw)


def _draw_generation(page: Page, view: HeaderView) -> None:
    if view.settings:
        _draw_title(page, "generation settings in force")
        _draw_facts(page, view.settings)
    if view.pipeline:
        _draw_title(page, "the scores pass, in this order")
        _draw_facts(page, [_numbered(number, fact) for number, fact in enumerate(view.pipeline, 1)])
    if view.criteria:
        _draw_title(page, "what can stop a row")
        _draw_facts(page, view.criteria)


def _numbered(number: int, fact: Fact) -> Fact:
    return Fact(f"{number} {fact.name}", fact.value)


def _draw_title(page: Page, title: str) -> None:
    page.blank()
    page.line(Text.styled(title, theme.TITLE), INDENT)


def _draw_facts(page: Page, facts: Sequence[Fact]) -> None:
    names = max(len(fact.name) for fact in facts)
    values = max((len(fact.value) for fact in facts if len(fact.value) <= _VALUE_CELLS), default=0)
    for fact in facts:
        line = Text.styled(fact.name.ljust(names + 2), theme.NAME).append(
            fact.value.ljust(values), theme.VALUE
        )
        if fact.meaning is None:
            page.wrapped(line, INDENT, hanging=names + 2)
        elif len(fact.value) <= values or line.cell_len + 2 + len(fact.meaning) <= page.width - INDENT:
            page.hanging(line.append("  "), Text.styled(fact.meaning, theme.QUIET), INDENT)
        else:
            page.wrapped(line, INDENT, hanging=names + 2)
            page.wrapped(Text.styled(fact.meaning, theme.QUIET), INDENT + names + 2)


def _draw_prompt(page: Page, prompt: PromptView, batch: int) -> None:
    place = f", row {prompt.row}" if batch > 1 else ""
    if prompt.text is not None:
        _draw_title(page, f"prompt text with the chat template applied{place}")
        _draw_lines(page, prompt.text, _PROMPT_LINES, theme.VALUE)
    padding = f", the first {prompt.padding} padding" if prompt.padding else ""
    _draw_title(page, f"{plural(len(prompt.tokens), 'prompt token')}, id and text{place}{padding}")
    draw_tokens(page, prompt.tokens, INDENT)


def _draw_lines(page: Page, text: str, limit: int, style: str) -> None:
    lines = text.rstrip("\n").split("\n")
    hidden = len(lines) - limit
    if hidden > 1:
        half = limit // 2
        lines = [*lines[:half], f"… {plural(hidden, 'line')} not shown …", *lines[-(limit - half) :]]
    for line in lines:
        page.barred(Text.styled(line, style))
