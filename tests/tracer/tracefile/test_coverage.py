"""verify covers every byte that a reader uses: a change is reported, or nothing that is read has changed."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support.synthetic import synthetic_end
from tests.tracer.tracefile.samples import header, some_tokens, steps, tensors, with_faults
from tracer.errors import TraceFileError
from tracer.schema.stamp import Stamp
from tracer.tracefile import TraceWriter, check_file, stamp
from tracer.tracefile.format import CREATE_TABLES


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with everything that a trace can hold."""
    path = tmp_path_factory.mktemp("sample") / "run.trace"
    with TraceWriter(path) as writer:
        for run in (1, 2):
            writer.begin_run(header(2), some_tokens(3))
            for step in steps(3, rows=2, run=run):
                writer.write_step(with_faults(step), some_tokens(), tensors(step.number))
            writer.end_run(run, synthetic_end(header(2), 3))
    stamp(path, Stamp(kind="file", ok=True, made_at="2026-01-02T03:04:05Z", summary="sound"))
    assert check_file(path).ok
    return path


def content(path: Path) -> list[Any]:
    """All that any statement can see of a file."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.text_factory = bytes
    try:
        found: list[Any] = [
            connection.execute(f"PRAGMA {name}").fetchall() for name in ("application_id", "user_version")
        ]
        return found + [connection.execute(f"SELECT * FROM {table}").fetchall() for table in CREATE_TABLES]
    finally:
        connection.close()


def problems(path: Path) -> tuple[str, ...]:
    try:
        return check_file(path).problems
    except TraceFileError as error:
        return (str(error),)


def flip(sample: Path, folder: Path, rounds: int, seed: int) -> None:
    generator = random.Random(seed)
    original, path = sample.read_bytes(), folder / "run.trace"
    before = content(sample)
    for _ in range(rounds):
        data = bytearray(original)
        place = generator.randrange(len(data))
        data[place] ^= generator.randrange(1, 256)
        path.write_bytes(data)
        if not problems(path):
            assert content(path) == before, f"byte {place}: {original[place]} is {data[place]} now"


def test_random_changes(sample: Path, tmp_path: Path) -> None:
    flip(sample, tmp_path, 60, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_random_changes(sample: Path, tmp_path: Path, seed: int) -> None:
    flip(sample, tmp_path, 500, seed)


@pytest.mark.parametrize("key", ["product", "version", "created_at", "columns", "digest"])
def test_every_byte_of_the_metadata_counts(sample: Path, tmp_path: Path, key: str) -> None:
    path = Path(shutil.copy(sample, tmp_path / "run.trace"))
    connection = sqlite3.connect(path)
    (value,) = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    for place in {0, len(value) // 2, len(value) - 1}:
        changed = value[:place] + ("x" if value[place] != "x" else "y") + value[place + 1 :]
        with connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", (changed, key))
        assert problems(path), changed
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meta WHERE key = 'digest'",
        "DELETE FROM meta WHERE key = 'product'",
        "INSERT INTO meta VALUES ('more', 'x')",
        "UPDATE meta SET key = 'more' WHERE key = 'product'",
        "PRAGMA user_version = 1",
        "UPDATE token SET id = -id WHERE id = 7",
        "UPDATE stamp SET number = -1",
        "UPDATE run SET run = -1 WHERE run = 2",
        "INSERT INTO layout SELECT run, 77, data, digest FROM layout LIMIT 1",
        "INSERT INTO call_shape SELECT 5, shape, data, digest FROM call_shape LIMIT 1",
    ],
)
def test_rows_that_no_run_reads_count_too(sample: Path, tmp_path: Path, statement: str) -> None:
    path = Path(shutil.copy(sample, tmp_path / "run.trace"))
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()
    assert problems(path)
