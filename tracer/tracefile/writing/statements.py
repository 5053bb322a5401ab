"""The INSERT statements of a trace, each with the digest of what it stores."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from tracer.schema.base import Record
from tracer.schema.run import TokenText
from tracer.tracefile.encoding.digests import digest, token_digest
from tracer.tracefile.encoding.plain_rows import SqlValue, plain_rows, step_columns
from tracer.tracefile.encoding.saved_tensor import SavedTensor
from tracer.tracefile.format import MAX_JSON, TENSOR_PART
from tracer.tracefile.writing.staged_step import StagedStep

_BYTES_A_STATEMENT = 1 << 20  # SQLite copies its parameters

_ROWS_A_STATEMENT = 64  # times at most 12 columns stays below the 999 variables of older SQLite versions


def record_text(record: Record) -> str:
    """A record as JSON.

    Raises:
        ValueError: it is too long to be stored.
    """
    text = record.model_dump_json()
    if len(text) > MAX_JSON // 4:  # a character takes up to four bytes
        raise ValueError(f"a record of {len(text)} characters is more than a trace can hold")
    return text


def insert_tokens(connection: sqlite3.Connection, tokens: Iterable[TokenText]) -> None:
    """Store token texts; one that another writer has stored meanwhile is the same."""
    rows = [(t.id, t.text, t.piece, int(t.special), token_digest(t)) for t in tokens]
    if rows:
        connection.executemany("INSERT OR IGNORE INTO token VALUES (?, ?, ?, ?, ?)", rows)


def insert_interned(
    connection: sqlite3.Connection,
    table: Literal["layout", "call_shape"],
    found: Iterable[tuple[int, Mapping[int, str]]],
) -> None:
    """Store interned records, to which steps refer by number.

    Args:
        connection: the trace.
        table: of the records.
        found: runs, and the JSON of new records of theirs by number.
    """
    rows = [
        (run, number, text, digest(run, number, text))
        for run, texts in found
        for number, text in texts.items()
    ]
    _insert_rows(connection, table, rows)


def insert_steps(connection: sqlite3.Connection, steps: Sequence[StagedStep]) -> None:
    """Store the rows of steps, and their plain rows."""
    _insert_rows(connection, "step", [_step_row(each) for each in steps])
    plain = [plain_rows(each.step) for each in steps]
    for table in plain[0]:
        _insert_rows(connection, table, [row for rows in plain for row in rows[table]])


def _step_row(staged: StagedStep) -> Sequence[SqlValue | bytes]:
    packed = staged.packed
    return (
        *(packed.run, packed.step, *step_columns(staged.step.head), packed.tensors, staged.digest),
        *(packed.head, packed.scores, packed.modules, packed.cache),
    )


def insert_tensors(
    connection: sqlite3.Connection, run: int, step: int, tensors: Mapping[str, SavedTensor]
) -> None:
    """Store tensors in parts."""
    rows: list[Sequence[SqlValue | memoryview | bytes]] = []
    size = 0
    for name, tensor in tensors.items():
        shape = json.dumps(tensor.shape)
        for part, data in enumerate(tensor.parts(TENSOR_PART)):
            part_digest = digest(run, step, name, part, tensor.dtype, shape, data)
            rows.append((run, step, name, part, tensor.dtype, shape, part_digest, data))
            size += data.nbytes
            if size > _BYTES_A_STATEMENT:
                _insert_rows(connection, "tensor", rows)
                rows, size = [], 0
    _insert_rows(connection, "tensor", rows)


def _insert_rows(
    connection: sqlite3.Connection, table: str, rows: Sequence[Sequence[SqlValue | memoryview | bytes]]
) -> None:
    # Few statements for many rows: each one releases the interpreter lock and has to reacquire it.
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        some = rows[start : start + _ROWS_A_STATEMENT]
        statement = _insertion(table, len(some[0]), len(some))
        connection.execute(statement, [value for row in some for value in row])


@lru_cache(maxsize=256)
def _insertion(table: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"INSERT INTO {table} VALUES {', '.join([row] * rows)}"  # noqa: S608 - our own table names
