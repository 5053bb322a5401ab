"""The table of module calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Column, Page
from reports.view.blocks import LayerRow, LayerTable, Range
from reports.view.figures import count, statistic


def draw_layers(page: Page, table: LayerTable) -> None:
    """One line a module or group of equal layers, the modules inside them below.

    Args:
        page: where to draw.
        table: the module calls.
    """
    rows = list(_flat(table))
    same = _common_place(table)
    if same is not None:
        page.line(Text.styled(f"every output is {same}", theme.QUIET), INDENT)
    page.columns(_columns(rows, with_place=same is None))
    for row, _ in rows:
        if row.statistics is not None and row.statistics.nonfinite:
            page.wrapped(
                Text.styled(
                    f"✗ {row.name}: {count(row.statistics.nonfinite)} NaN or infinite values", theme.BAD
                )
            )
    if table.not_called:
        page.wrapped(
            Text.styled(f"not called: {', '.join(table.not_called)}", theme.QUIET), INDENT, hanging=2
        )


def _flat(table: LayerTable) -> Iterator[tuple[LayerRow, int]]:
    """Rows with their depth; what is inside equal layers is shown for the first group that has it."""
    seen: set[tuple[tuple[str, str | None, str | None], ...]] = set()
    for row in table.rows:
        yield row, 0
        inside = tuple((child.name, child.inputs, child.outputs) for child in row.children)
        if inside and inside not in seen:
            yield from ((child, 1) for child in row.children)
        seen.add(inside)


def _columns(rows: list[tuple[LayerRow, int]], *, with_place: bool) -> list[Column]:
    def column(of: Callable[[LayerRow], str | None], style: str = theme.VALUE) -> list[Text]:
        return [Text.styled(of(row) or "", theme.BAD if _is_bad(row) else style) for row, _ in rows]

    names = [
        Text.styled(
            "  " * depth + row.name, theme.BAD if _is_bad(row) else theme.QUIET if depth else theme.NAME
        )
        for row, depth in rows
    ]
    columns = [
        Column(names, "module", limit=44),
        Column(column(lambda row: row.class_name, theme.QUIET), "class", rank=5),
        Column(column(lambda row: count(row.calls)), "calls", "right", rank=3),
        Column(column(lambda row: row.inputs), "input", rank=2),
        Column(column(lambda row: row.outputs), "output"),
    ]
    if with_place:
        columns.append(Column(column(_place, theme.QUIET), "", rank=1))
    return [
        *columns,
        Column(column(lambda row: _statistics(row)[0]), "mean", "right", rank=6),
        Column(column(lambda row: _statistics(row)[1]), "std", "right", rank=4),
        Column(column(lambda row: _statistics(row)[2]), "min … max", "right", rank=1),
    ]


def _statistics(row: LayerRow) -> tuple[str, str, str]:
    """Mean, standard deviation and ends as text."""
    found = row.statistics
    if found is None:
        return "", "", ""
    return _range(found.mean), _range(found.std), _range(Range(found.low, found.high))


def _is_bad(row: LayerRow) -> bool:
    return row.statistics is not None and row.statistics.nonfinite > 0


def _place(row: LayerRow) -> str:
    return f"{row.dtype or ''}  {row.device or ''}".strip()


def _common_place(table: LayerTable) -> str | None:
    places = {_place(row) for top in table.rows for row in (top, *top.children) if row.outputs is not None}
    return places.pop() if len(places) == 1 else None


def _range(found: Range) -> str:
    low, high = statistic(found.low), statistic(found.high)
    return low if low == high else f"{low} … {high}"
