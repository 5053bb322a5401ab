"""JSON Lines: one object for the file, then for each run its header, its steps and its end.

NaN and infinite numbers are the texts ``NaN``, ``Infinity`` and ``-Infinity``, since JSON has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from reports.export.tables import TABLES
from reports.recorded_run import Run
from tracer.json_values import json_ready
from tracer.schema.base import Record
from tracer.schema.step import Step
from tracer.tracefile import FileInfo


def write_jsonl(file: BinaryIO, info: FileInfo, runs: Iterable[Run]) -> None:
    """Write runs.

    Args:
        file: where to.
        info: about the trace.
        runs: the runs to write.
    """
    for line in _lines(info, runs):
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _lines(info: FileInfo, runs: Iterable[Run]) -> Iterator[dict[str, Any]]:
    yield {
        "kind": "trace",
        "format_version": info.format_version,
        "product_version": info.product_version,
        "created_at": info.created_at,
    }
    for run in runs:
        yield {"kind": "run", "run": run.number, "header": _record(run.header)}
        for step in run.steps:
            yield _step(run, step)
        end = run.end
        if end is not None:
            yield {"kind": "end", "run": run.number, "end": _record(end)}


def _step(run: Run, step: Step) -> dict[str, Any]:
    tables = {
        name: [
            {
                column: json_ready(value)
                for column, value in zip(table.columns, row, strict=True)
                if column not in ("run", "step")
            }
            for row in table.rows(step, run.header, run.tokens)
        ]
        for name, table in TABLES.items()
    }
    return {
        "kind": "step",
        "run": run.number,
        "step": step.number,
        "head": _record(step.head),
        **tables,
        "tensors": [_tensor(run, step.number, name) for name in run.tensor_names(step.number)],
    }


def _tensor(run: Run, step: int, name: str) -> dict[str, Any]:
    dtype, shape = run.tensor_layout(step, name)
    return {"name": name, "dtype": dtype, "shape": shape}


def _record(record: Record) -> Any:
    return json.loads(record.model_dump_json())
