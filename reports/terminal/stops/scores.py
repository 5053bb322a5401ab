"""Candidates, processors, the choice, and the same figures for the other rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Column, Page
from reports.terminal.words import bar, class_with_settings, joined, token_text, token_with_id
from reports.view.blocks import (
    CandidateList,
    CandidateRow,
    ChoiceRow,
    ChoiceTable,
    FigureRow,
    FigureTable,
    OtherRows,
    Stage,
    StageTable,
    TokenPath,
)
from reports.view.figures import bits, count, plural, probability, score

_MAX_LISTED = 10
"""How many candidates and removed tokens are listed."""

_BAR_CELLS = 30
_SCORE_CELLS = 13


def draw_candidates(page: Page, found: CandidateList, max_listed: int = _MAX_LISTED) -> None:
    """A candidate list with bars, or the top of the raw logits.

    Args:
        page: where to draw.
        found: the list.
        max_listed: how many tokens are listed at most.
    """
    page.gap()
    rows = found.rows[:max_listed]
    columns = _logit_columns(rows, found.first)
    if all(row.probability is None for row in found.rows):
        page.wrapped(_raw_title(found))
        page.columns(columns)
        return
    page.wrapped(_candidates_title(found))
    page.columns([*columns, *_probability_columns(rows, _bar_cells(page, columns))])
    _draw_remainder(page, found, rows)


def _raw_title(found: CandidateList) -> Text:
    return Text.styled(f"{found.title}, row {found.row}", theme.TITLE).append(
        f"  (entropy of their softmax: {bits(found.entropy)})", theme.QUIET
    )


def _candidates_title(found: CandidateList) -> Text:
    verb = "remains" if found.total == 1 else "remain"
    return Text.styled(
        f"{plural(found.total, 'candidate')} {verb} of {count(found.vocabulary)}, row {found.row}",
        theme.TITLE,
    ).append(f"  (entropy {bits(found.entropy)})", theme.QUIET)


def _logit_columns(rows: Sequence[CandidateRow], first: str) -> list[Column]:
    return [
        Column([Text(str(row.rank)) for row in rows], "rank", "right"),
        Column([Text.styled(str(row.token.id), theme.QUIET) for row in rows], "id", "right"),
        Column([token_text(row.token) for row in rows], "token"),
        Column([Text(score(row.raw)) for row in rows], first, "right"),
    ]


def _bar_cells(page: Page, columns: Sequence[Column]) -> int:
    """Cells of a full bar: what the other columns and the two columns of figures leave free."""
    used = INDENT + sum(column.width + 2 for column in columns) + 2 * _SCORE_CELLS
    return min(_BAR_CELLS, max(8, page.width - used))


def _probability_columns(rows: Sequence[CandidateRow], bar_cells: int) -> list[Column]:
    shares = [row.probability or 0.0 for row in rows]
    return [
        Column([Text(score(row.score or 0.0)) for row in rows], "score", "right"),
        Column([Text(probability(share)) for share in shares], "probability", "right"),
        Column([bar(share, bar_cells) for share in shares], "", rank=1),
    ]


def _draw_remainder(page: Page, found: CandidateList, rows: Sequence[CandidateRow]) -> None:
    """How many candidates are not listed, and their probability together."""
    hidden = found.total - len(rows)
    if hidden <= 0:
        return
    rest = max(0.0, 1 - math.fsum(row.probability or 0.0 for row in rows))
    text = f"and {plural(hidden, 'more token')} with probability {probability(rest)} in all"
    page.line(Text.styled(text, theme.QUIET), INDENT)


def draw_stages(page: Page, table: StageTable) -> None:
    """Each processor with what it did, then the top tokens before and after.

    Args:
        page: where to draw.
        table: the processors of one list.
    """
    for stage in table.stages:
        _draw_stage(page, stage)
        page.in_card = True
    page.gap()
    page.line(
        Text.styled(f"scores of the top tokens, row {table.row}, before and after each", theme.TITLE), INDENT
    )
    _draw_paths(page, table)


def _draw_stage(page: Page, stage: Stage) -> None:
    title = Text.styled(f"{stage.number} ", theme.NUMBER).append_text(
        class_with_settings(stage.class_name, stage.settings)
    )
    page.wrapped(title, INDENT, hanging=2)
    if stage.meaning is not None:
        page.wrapped(Text.styled(stage.meaning, theme.QUIET), INDENT + 2)
    parts = [Text(f"changed {count(stage.changed)} of {count(stage.vocabulary)} scores")]
    if stage.removed:
        gone = f"removed {count(stage.removed)}, their probability {probability(stage.mass_removed)}"
        parts.append(Text.styled(gone, theme.REMOVED))
    else:
        parts.append(Text("removed none"))
    parts.append(Text(f"{plural(stage.kept_after, 'token')} left"))
    parts.append(Text(f"entropy {stage.entropy_before:.4f} → {bits(stage.entropy_after)}"))
    page.flow(parts, INDENT + 2, " · ")
    if stage.removed_tokens:
        _draw_removed(page, stage)


def _draw_removed(page: Page, stage: Stage) -> None:
    shown = stage.removed_tokens[:_MAX_LISTED]
    items = [token_with_id(token, 16) for token in shown]
    hidden = stage.removed - len(shown)
    if hidden > 0:
        items.append(Text.styled(f"… {count(hidden)} more", theme.QUIET))
    page.flow([Text.styled("removed:", theme.QUIET), *items], INDENT + 2)


def _draw_paths(page: Page, table: StageTable) -> None:
    names = [_short(stage.class_name) for stage in table.stages]
    widths = [max(_SCORE_CELLS, len(name) + 2) for name in names]
    fixed = INDENT + sum(column.width + 2 for column in _token_columns(table.paths)) + _SCORE_CELLS
    start = 0
    while start < len(names):
        stop = start + 1
        while stop < len(names) and fixed + sum(widths[start : stop + 1]) + 2 * (stop - start) <= page.width:
            stop += 1
        if start:
            page.blank()
        _draw_path_columns(page, table, start, stop, names)
        start = stop


def _draw_path_columns(page: Page, table: StageTable, start: int, stop: int, names: Sequence[str]) -> None:
    """The score before processor ``start`` and after each up to ``stop``."""
    columns = _token_columns(table.paths)
    for place in range(start, stop + 1):
        heading = f"→ {names[place - 1]}" if place > start else "before" if not start else f"after {start}"
        columns.append(Column([_path_cell(path, place) for path in table.paths], heading, "right"))
    page.columns(columns)


def _token_columns(paths: Sequence[TokenPath]) -> list[Column]:
    return [
        Column([Text.styled(str(path.token.id), theme.QUIET) for path in paths], "id", "right"),
        Column([token_text(path.token, 20) for path in paths], "token"),
    ]


def _path_cell(path: TokenPath, place: int) -> Text:
    value = path.scores[place]
    if value == -math.inf:
        already = place > 0 and path.scores[place - 1] == -math.inf
        return Text.styled("·", theme.QUIET) if already else Text.styled("removed", theme.REMOVED)
    same = place > 0 and path.scores[place - 1] == value
    return Text.styled(score(value), theme.QUIET if same else theme.VALUE)


def _short(class_name: str) -> str:
    for ending in ("LogitsProcessor", "LogitsWarper", "Processor", "Warper"):
        if class_name.endswith(ending) and class_name != ending:
            return class_name[: -len(ending)][:20]
    return class_name[:20]


def draw_choice(page: Page, table: ChoiceTable) -> None:
    """The chosen token of each row.

    Args:
        page: where to draw.
        table: the choices.
    """
    rows = table.rows
    columns = [
        Column([Text(str(row.row)) for row in rows], "row", "right"),
        Column([_chosen_text(row) for row in rows], "chosen"),
        Column([_unless_ended(row, probability(row.probability)) for row in rows], "probability", "right"),
        Column(
            [_unless_ended(row, f"{count(row.rank)} of {count(row.candidates)}") for row in rows],
            "rank",
            "right",
        ),
        Column([_unless_ended(row, count(row.raw_rank)) for row in rows], "raw rank", "right", rank=2),
        Column([_runner_up(row) for row in rows], "runner-up", rank=1),
    ]
    page.columns(columns)


def _chosen_text(row: ChoiceRow) -> Text:
    text = token_with_id(row.token, 20)
    text.stylize(theme.QUIET if row.padding else theme.CHOSEN)
    return text.append(" (padding, the row has ended)", theme.QUIET) if row.padding else text


def _unless_ended(row: ChoiceRow, text: str) -> Text:
    return Text("" if row.padding else text)


def _runner_up(row: ChoiceRow) -> Text:
    if row.padding:
        return Text()
    if row.runner_up is None:
        return Text.styled("none", theme.QUIET)
    chance = Text.styled(probability(row.runner_up.probability or 0.0), theme.VALUE)
    return joined([token_with_id(row.runner_up.token, 16), chance], "  ")


def draw_other_rows(page: Page, table: OtherRows) -> None:
    """The other rows of the batch, a line each.

    Args:
        page: where to draw.
        table: their figures.
    """
    page.gap()
    page.line(Text.styled("the other rows of the batch", theme.TITLE), INDENT)
    columns = [Column([Text(str(row)) for row, _ in table.rows], "row", "right")]
    for place, heading in enumerate(table.columns):
        columns.append(Column([Text(cells[place]) for _, cells in table.rows], heading))
    if page.fits(columns, INDENT):
        page.columns(columns, INDENT)
        return
    for row, cells in table.rows:
        page.line(Text.styled(f"row {row}", theme.LABEL), INDENT)
        parts = [
            Text.styled(heading, theme.QUIET).append(f" {cell}", theme.VALUE)
            for heading, cell in zip(table.columns, cells, strict=True)
        ]
        page.flow(parts, INDENT + 2, " · ")


def draw_figures(page: Page, table: FigureTable) -> None:
    """A table of figures; what the library took stands out.

    Args:
        page: where to draw.
        table: the table.
    """
    page.gap()
    page.wrapped(Text.styled(table.title, theme.TITLE))
    page.columns(
        [
            Column(
                [_figure(row, place) for row in table.rows],
                column.heading,
                "left" if column.text else "right",
                rank=column.rank,
            )
            for place, column in enumerate(table.columns)
        ]
    )


def _figure(row: FigureRow, place: int) -> Text:
    cell = row.cells[place]
    text = Text(cell) if isinstance(cell, str) else token_with_id(cell, 20)
    if row.taken:
        text.stylize(theme.CHOSEN)
    return text
