"""CSV: RFC 4180, UTF-8, a heading line; empty where there is no value.

Written here, since the writer of Python 3.10 refuses a text with a NUL, and a token may be one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import BinaryIO

from reports.export.tables import Cell, Row, Table

_NEEDS_QUOTES = re.compile(r'[",\r\n]|^\s|\s$')


def write_csv(file: BinaryIO, table: Table, rows: Iterable[Row]) -> None:
    """Write a table.

    Args:
        file: where to.
        table: its columns.
        rows: its rows.
    """
    file.write(_line(table.columns))
    for row in rows:
        file.write(_line(row))


def _line(cells: Iterable[Cell]) -> bytes:
    return (",".join(map(_field, cells)) + "\r\n").encode()


def _field(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if _NEEDS_QUOTES.search(text) is None:
        return text
    return '"' + text.replace('"', '""') + '"'
