"""CSV: RFC 4180, UTF-8, a heading line; empty where there is no value."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import BinaryIO

from reports.export.tables import Cell, Row, Table


def write_csv(file: BinaryIO, table: Table, rows: Iterable[Row]) -> None:
    """Write a table.

    Args:
        file: where to.
        table: its columns.
        rows: its rows.
    """
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(table.columns)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    text.flush()
    text.detach()


def _cell(value: Cell) -> Cell:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value
