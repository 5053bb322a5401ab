"""The KV cache and the stopping criteria."""

from __future__ import annotations

from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Column, Page
from reports.terminal.words import class_with_settings
from reports.view.blocks import CacheTable, CriterionRow, CriterionTable, Range
from reports.view.figures import byte_size, plural, shape, statistic


def draw_cache(page: Page, table: CacheTable) -> None:
    """Slots, layers and bytes, then the layers, equal ones folded.

    Args:
        page: where to draw.
        table: the cache.
    """
    page.gap()
    title = Text.styled(table.title, theme.TITLE)
    if table.kind == "none":
        page.wrapped(title.append("  none: this run keeps no cache", theme.VALUE))
        return
    if not table.rows:
        page.wrapped(title.append(f"  {table.kind}, {'empty' if not table.length else ''}".rstrip(", ")))
        return
    page.wrapped(
        title.append(
            f"  {table.kind}: {plural(table.length, 'slot')} in {plural(table.layers, 'layer')}, "
            f"{byte_size(table.total_bytes)} in all",
            theme.VALUE,
        )
    )
    page.columns(_cache_columns(table), INDENT + 2)
    if any(len(row.key.shape) == 4 for row in table.rows):
        page.line(Text.styled("K and V are [rows, KV heads, slots, head dim]", theme.QUIET), INDENT + 2)
    if table.key_norms is not None and table.value_norms is not None:
        page.wrapped(
            Text.styled(
                f"lengths (norms) of the vectors written in this step: keys {_range(table.key_norms)}, "
                f"values {_range(table.value_norms)}",
                theme.QUIET,
            ),
            INDENT + 2,
        )


def _cache_columns(table: CacheTable) -> list[Column]:
    rows = table.rows
    return [
        Column(
            [
                Text.styled(f"{'layer' if row.count == 1 else 'layers'} {row.layers}", theme.NAME)
                for row in rows
            ]
        ),
        Column([Text.styled("K ", theme.QUIET).append(shape(row.key.shape), theme.VALUE) for row in rows]),
        Column([Text.styled("V ", theme.QUIET).append(shape(row.value.shape), theme.VALUE) for row in rows]),
        Column([Text.styled(row.key.dtype, theme.QUIET) for row in rows]),
        Column([Text.styled(row.key.device, theme.QUIET) for row in rows]),
        Column([Text(f"{byte_size(row.layer_bytes)} a layer") for row in rows], rank=1),
    ]


def _range(found: Range) -> str:
    return f"{statistic(found.low)} … {statistic(found.high)}"


def draw_criteria(page: Page, table: CriterionTable) -> None:
    """Each criterion and its answer.

    Args:
        page: where to draw.
        table: the criteria.
    """
    for row in table.rows:
        answer, style = _answer(row, table.batch)
        line = class_with_settings(row.class_name, row.settings).append("  ").append(answer, style)
        page.wrapped(line, INDENT, hanging=2)
        if row.meaning is not None:
            page.wrapped(Text.styled(row.meaning, theme.QUIET), INDENT + 2)


def _answer(row: CriterionRow, batch: int) -> tuple[str, str]:
    if not row.fired:
        return "not fired", theme.QUIET
    if batch == 1:
        return "fired", theme.CHOSEN
    which = "row" if len(row.fired) == 1 else "rows"
    return f"fired for {which} {', '.join(str(number) for number in row.fired)}", theme.CHOSEN
