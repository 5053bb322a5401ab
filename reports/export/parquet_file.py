"""Parquet, by pyarrow, which is an optional extra."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, BinaryIO

from reports.export.tables import Row, Table
from tracer.errors import UsageError
from tracer.messages import named

_ROWS = 20_000
"""Rows of a row group: what is in memory at once."""


def require_pyarrow() -> Any:
    """The library.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        if find_spec("pyarrow") is None:
            raise UsageError(
                "--format parquet needs pyarrow; install it with: pip install 'trace-generate[parquet]'"
            ) from None
        raise UsageError(
            f"--format parquet needs pyarrow, which is installed and cannot be imported: {named(error)}; "
            "another release of it, or of numpy, may fit (pip install --upgrade numpy pyarrow)."
        ) from error
    return pyarrow


def write_parquet(file: BinaryIO, table: Table, rows: Iterable[Row]) -> None:
    """Write a table in row groups.

    Args:
        file: where to.
        table: its columns.
        rows: its rows.

    Raises:
        UsageError: pyarrow is not installed.
    """
    arrow = require_pyarrow()
    kinds = {"int": arrow.int64(), "float": arrow.float64(), "text": arrow.string(), "truth": arrow.bool_()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in table.columns.items()])
    waiting = iter(rows)
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        while group := list(itertools.islice(waiting, _ROWS)):
            columns = [
                arrow.array(column, field.type)
                for column, field in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_batch(arrow.record_batch(columns, schema=schema))
