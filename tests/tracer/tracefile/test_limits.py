"""Small files that stand for much: refused, or read in time and memory that fit their size."""

from __future__ import annotations

import json
import sqlite3
import time
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.altered import sign
from tests.support.command import call_main
from tests.support.synthetic import synthetic_end, synthetic_steps
from tests.tracer.tracefile.samples import header, some_tokens
from tracer.schema.columns import CacheColumns, ModuleColumns
from tracer.schema.run import RunEnd, RunStatus
from tracer.tracefile import TraceFile, TraceWriter, check_file
from tracer.tracefile.encoding.columns import CACHE, MODULES

Json = dict[str, Any]
MUCH = 200 << 20


def written(path: Path, count: int = 2, *, runs: int = 1) -> Path:
    with TraceWriter(path) as writer:
        for _ in range(runs):
            run = writer.begin_run(header())
            for step in synthetic_steps(header(), count, run=run):
                writer.write_step(step, some_tokens())
            writer.end_run(run, synthetic_end(header(), count))
    return path


def edit(path: Path, change: Callable[[sqlite3.Connection], None]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    change(connection)
    sign(connection)
    connection.execute("COMMIT")
    connection.close()


def edit_heads(path: Path, change: Callable[[Json], None]) -> None:
    """Change every head, and deflate it as far as that goes."""

    def heads(connection: sqlite3.Connection) -> None:
        for step, head in connection.execute("SELECT step, head FROM step").fetchall():
            text = head if head[:1] == b"{" else zlib.decompress(head)
            record = json.loads(text)
            change(record)
            packed = zlib.compress(json.dumps(record, separators=(",", ":")).encode(), 9)
            connection.execute("UPDATE step SET head = ? WHERE step = ?", (packed, step))

    edit(path, heads)


def many_runs(head: Json) -> None:
    head["inputs"]["tensors"][0]["values"]["runs"] = [[0, 0, 1]] * 200_000


def many_violations(head: Json) -> None:
    violation = {"check": "cache", "message": "", "row": None, "module": None, "layer": None}
    head["violations"] = [violation] * 100_000


def many_interventions(head: Json) -> None:
    head["interventions"] = [{"kind": "ban", "detail": "x"}] * 100_000


def long_text(head: Json) -> None:
    head["inputs"]["others"]["a"] = "x" * (1 << 20)


def long_sequence(head: Json) -> None:
    head["inputs"]["sequence_length"] = 1 << 24


def many_values(head: Json) -> None:
    tensor = head["inputs"]["tensors"][3]
    tensor["info"]["shape"], tensor["values"] = [1, 1 << 24], {"runs": [[1, 0, 1 << 24]]}


def many_ids(head: Json) -> None:
    tensor = head["inputs"]["tensors"][0]
    tensor["info"]["shape"], tensor["values"] = [1, 1 << 15], {"runs": [[1, 0, 1 << 15]]}


def many_positions(head: Json) -> None:
    head["update"]["cache_position"] = {"runs": [[0, 1, 1 << 24]]}


def large_vocabulary(head: Json) -> None:
    head["vocab_size"] = 1 << 31


def many_checks(head: Json) -> None:
    head["checks"] = head["checks"] * 1000


@pytest.mark.parametrize(
    "change",
    [
        many_runs,
        many_violations,
        many_interventions,
        long_text,
        long_sequence,
        many_values,
        many_ids,
        many_positions,
        large_vocabulary,
        many_checks,
    ],
)
def test_a_head_that_unfolds_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Json], None]
) -> None:
    path = written(tmp_path / "run.trace")
    edit_heads(path, change)
    tracemalloc.start()
    try:
        for command, *options in ("verify",), ("show",), ("why", "--step", "1"), ("report", "--force"):
            done = call_main(capsys, command, path, *options)
            assert done.returncode == 8, (command, done)
            assert len(done.stderr.splitlines()) == 1
        assert tracemalloc.get_traced_memory()[1] < MUCH
    finally:
        tracemalloc.stop()


def test_equal_numbers_of_many_steps_do_not_add_up(tmp_path: Path) -> None:
    path = written(tmp_path / "run.trace", 3)
    calls = 100_000
    many = np.ones(calls, np.float32)
    numbers = np.ones(calls, np.int32)
    modules = MODULES.pack(ModuleColumns(numbers, many, many, many, many, numbers))
    norms = np.ones((3, 1, 4, 40_000), np.float32)
    cache = CACHE.pack(CacheColumns(norms, norms))
    assert len(modules) + len(cache) < 200
    for name, blob in (("modules", modules), ("cache", cache)):

        def replaced(connection: sqlite3.Connection, name: str = name, blob: bytes = blob) -> None:
            connection.execute(f"UPDATE step SET {name} = ? WHERE step = 2", (blob,))

        edit(path, replaced)
        report = check_file(path)
        assert any("stand for too many values" in problem for problem in report.problems)


def test_what_a_writer_joins_a_reader_takes_apart(tmp_path: Path) -> None:
    """A run of NaN has equal numbers everywhere; however many there are, its trace can be read."""
    norms = np.full((3, 1, 4, 200_000), np.nan, np.float32)
    steps = [replace(step, cache=CacheColumns(norms, norms)) for step in synthetic_steps(header(), 2)]
    with TraceWriter(tmp_path / "run.trace") as writer:
        writer.begin_run(header())
        for step in steps:
            writer.write_step(step, some_tokens())
    with TraceFile(tmp_path / "run.trace") as recording:
        for step in recording.steps:
            assert step.cache is not None
            assert np.isnan(step.cache.key_norm).all()


@pytest.mark.slow
def test_a_thousand_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "run.trace", 0)

    def multiply(connection: sqlite3.Connection) -> None:
        (text,) = connection.execute("SELECT header FROM run").fetchone()
        small: Json = {"modules": [], "anchors": [], "processors": [], "criteria": [], "versions": {}}
        record = json.loads(text) | small | {"prompt": [{"token_ids": [1], "padding": 0}]}
        end = RunEnd(status=RunStatus.COMPLETE, steps=0, seconds=0).model_dump_json()
        connection.execute("DELETE FROM run")
        connection.executemany(
            "INSERT INTO run VALUES (?, ?, x'00', ?, x'00', x'00')",
            ((run, json.dumps(record), end) for run in range(1, 1001)),
        )

    edit(path, multiply)
    before = time.process_time()
    for command, *options in ("info",), ("verify",), ("show",), ("export", "--format", "jsonl"):
        assert call_main(capsys, command, path, *options).returncode in (0, 7)
    assert time.process_time() - before < 60
