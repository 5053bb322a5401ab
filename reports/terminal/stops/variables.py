"""Variables as a debugger's pane shows them, and tokens of a sequence."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Page
from reports.terminal.words import token_with_id
from reports.view import figures
from reports.view.blocks import TokenStrip, Variable, VariableTable
from reports.view.tokens import TokenView

_SHOWN_HEAD, _SHOWN_TAIL, _FEWEST_HIDDEN = 48, 12, 12


def draw_variables(page: Page, table: VariableTable) -> None:
    """Name, shape, dtype, device and meaning on one line, the value below it.

    Args:
        page: where to draw.
        table: the variables.
    """
    if table.title is not None:
        page.gap()
        page.line(Text.styled(table.title, theme.TITLE), INDENT)
    widths = _widths(table.variables)
    for variable in table.variables:
        _draw(page, variable, widths)


def draw_strip(page: Page, strip: TokenStrip) -> None:
    """Tokens of a sequence, each with its id, flowing over the lines.

    Args:
        page: where to draw.
        strip: the tokens.
    """
    page.gap()
    page.wrapped(Text.styled(strip.title, theme.TITLE))
    draw_tokens(page, strip.tokens)


def draw_tokens(page: Page, tokens: Sequence[TokenView], indent: int = INDENT + 2) -> None:
    """Tokens with their ids; the middle of a long sequence is left out, and said to be.

    Args:
        page: where to draw.
        tokens: the tokens.
        indent: cells to leave free at the left.
    """
    hidden = len(tokens) - _SHOWN_HEAD - _SHOWN_TAIL
    if hidden >= _FEWEST_HIDDEN:
        page.flow(_with_gap(tokens, _SHOWN_HEAD, _SHOWN_TAIL), indent)
    else:
        page.flow([token_with_id(token) for token in tokens], indent)


def fitted_tokens(page: Page, tokens: Sequence[TokenView], lines: int, indent: int) -> list[RenderableType]:
    """Tokens with their ids in no more than some lines; the middle is left out where they need more.

    Args:
        page: the page whose width they shall fit.
        tokens: the tokens.
        lines: how many lines.
        indent: cells to leave free at the left.
    """
    head, tail = min(len(tokens), _SHOWN_HEAD), min(_SHOWN_TAIL, 4 * lines)
    items = [token_with_id(token) for token in tokens] if len(tokens) <= head + tail else None
    while True:
        inner = page.another()
        inner.flow(items or _with_gap(tokens, head, tail), indent)
        if len(inner.items) <= lines or head + tail <= 1:
            return inner.items[:lines]
        items = None
        head, tail = (head - 1, tail) if head > tail else (head, tail - 1)


def _with_gap(tokens: Sequence[TokenView], head: int, tail: int) -> list[Text]:
    """The first and the last tokens, and how many are between."""
    hidden = figures.plural(len(tokens) - head - tail, "token")
    gap = Text.styled(f"… {hidden} not shown …", theme.QUIET)
    ends = [token_with_id(token) for token in (*tokens[:head], *tokens[len(tokens) - tail :])]
    return [*ends[:head], gap, *ends[head:]]


def _draw(page: Page, variable: Variable, widths: tuple[int, ...]) -> None:
    cells = _cells(variable)
    line = Text()
    for number, (cell, style, width) in enumerate(
        zip(cells, (theme.NAME, theme.VALUE, theme.QUIET, theme.QUIET), widths, strict=True)
    ):
        if variable.info is None and number:
            break
        line.append(cell.ljust(width + 2), style)
    value = variable.value
    if value is not None and variable.info is None:
        line.append(f"{value}  ", theme.VALUE)
        value = None
    start = widths[0] + 2
    if variable.meaning is None or line.cell_len + len(variable.meaning) <= page.width - INDENT:
        page.line(line.append(variable.meaning or "", theme.QUIET), INDENT)
    else:
        page.line(line, INDENT)
        page.wrapped(Text.styled(variable.meaning, theme.QUIET), INDENT + start)
    if value is not None:
        page.wrapped(Text.styled(f"= {value}", theme.VALUE), INDENT + start, hanging=2)


def _cells(variable: Variable) -> tuple[str, str, str, str]:
    info = variable.info
    if info is None:
        return variable.name, "", "", ""
    return variable.name, figures.shape(info.shape), info.dtype, info.device


def _widths(variables: Sequence[Variable]) -> tuple[int, ...]:
    cells = [_cells(variable) for variable in variables]
    return tuple(max(len(cell) for cell in column) for column in zip(*cells, strict=True)) or (0, 0, 0, 0)
