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
from reports.view.run.header import HeaderView, NamedValue, PromptView

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
            _draw_values(page, view.metadata)
            _draw_title(page, "module tree, as print(model) shows it")
            _draw_lines(page, view.tree, _TREE_LINES, theme.QUIET)
        _draw_generation(page, view)
        for prompt in view.prompts[:_ROWS]:
            _draw_prompt(page, prompt, batch=len(view.prompts))
        if len(view.prompts) > _ROWS:
            page.line(Text.styled(f"… {plural(len(view.prompts) - _ROWS, 'more row')}", theme.QUIET), INDENT)
        versions = " · ".join(f"{each.name} {each.value}" for each in view.versions)
        page.blank()
        page.wrapped(Text.styled(f"{versions} · started {view.started_at}", theme.QUIET))

    return PageRenderable(draw)


def _draw_generation(page: Page, view: HeaderView) -> None:
    if view.settings:
        _draw_title(page, "generation settings in force")
        _draw_values(page, view.settings)
    if view.pipeline:
        _draw_title(page, "the scores pass, in this order")
        _draw_values(page, [_numbered(number, each) for number, each in enumerate(view.pipeline, 1)])
    if view.criteria:
        _draw_title(page, "what can stop a row")
        _draw_values(page, view.criteria)


def _numbered(number: int, processor: NamedValue) -> NamedValue:
    return NamedValue(f"{number} {processor.name}", processor.value)


def _draw_title(page: Page, title: str) -> None:
    page.blank()
    page.line(Text.styled(title, theme.TITLE), INDENT)


def _draw_values(page: Page, values: Sequence[NamedValue]) -> None:
    name_cells = max(len(each.name) for each in values)
    value_cells = max((len(each.value) for each in values if len(each.value) <= _VALUE_CELLS), default=0)
    for each in values:
        line = Text.styled(each.name.ljust(name_cells + 2), theme.NAME).append(
            each.value.ljust(value_cells), theme.VALUE
        )
        if each.meaning is None:
            page.wrapped(line, INDENT, hanging=name_cells + 2)
        elif len(each.value) <= value_cells or line.cell_len + 2 + len(each.meaning) <= page.width - INDENT:
            page.hanging(line.append("  "), Text.styled(each.meaning, theme.QUIET), INDENT)
        else:
            page.wrapped(line, INDENT, hanging=name_cells + 2)
            page.wrapped(Text.styled(each.meaning, theme.QUIET), INDENT + name_cells + 2)


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
