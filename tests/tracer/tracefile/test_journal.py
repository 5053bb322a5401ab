"""A write that was cut short leaves a journal: a trace is read as it was before, or not at all."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.tracer.tracefile.samples import assert_same_steps, write_trace
from tests.tracer.tracefile.unprivileged import run_unprivileged
from tracer.errors import TraceFileError
from tracer.schema.step import Step
from tracer.tracefile import TraceFile, TraceWriter, check_file


def cut_short(source: Path, path: Path) -> None:
    """A copy of a trace in the middle of a transaction that has written half of its pages."""
    connection = sqlite3.connect(source, isolation_level=None)
    connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    connection.execute("PRAGMA cache_size=1")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE step SET scores = zeroblob(40000)")
    connection.execute("UPDATE choice SET probability = 0.5")
    shutil.copy(source, path)
    shutil.copy(f"{source}-journal", f"{path}-journal")
    connection.execute("ROLLBACK")
    connection.close()
    assert path.read_bytes() != source.read_bytes()


@pytest.fixture
def half_written(tmp_path: Path) -> tuple[Path, list[Step]]:
    steps = write_trace(tmp_path / "source.trace", 6)
    (tmp_path / "half").mkdir()
    path = tmp_path / "half" / "run.trace"
    cut_short(tmp_path / "source.trace", path)
    return path, steps


def test_the_trace_is_read_as_it_was_before_the_write(half_written: tuple[Path, list[Step]]) -> None:
    path, steps = half_written
    with TraceFile(path) as recording:
        assert_same_steps(recording.steps, steps)
    report = check_file(path)
    assert report.ok
    assert report.whole
    assert [entry.name for entry in path.parent.iterdir()] == ["run.trace"]


def test_where_nothing_can_be_undone_one_line_says_so(half_written: tuple[Path, list[Step]]) -> None:
    path, _ = half_written
    before = path.read_bytes(), Path(f"{path}-journal").read_bytes()
    Path(f"{path}-journal").chmod(0o644)
    path.parent.chmod(0o555)
    try:
        for use in ("TraceFile", "check_file"):
            said = run_unprivileged(f"tracer.tracefile.{use}(sys.argv[1])", path).splitlines()[-1]
            assert "TraceFileError" in said
            assert "its last write was cut short" in said
            assert "run.trace-journal, cannot be applied here; copy both files" in said
    finally:
        path.parent.chmod(0o755)
    assert (path.read_bytes(), Path(f"{path}-journal").read_bytes()) == before


def test_a_journal_that_would_delete_another_file_is_refused(half_written: tuple[Path, list[Step]]) -> None:
    path, _ = half_written
    victim = path.parent / "victim"
    victim.write_text("keep me")
    name = str(victim).encode()
    with Path(f"{path}-journal").open("ab") as journal:
        length, total = len(name), sum(name)
        journal.write(b"\0\0\0\0" + name + length.to_bytes(4, "big") + total.to_bytes(4, "big"))
        journal.write(bytes.fromhex("d9d505f920a163d7"))
    with pytest.raises(TraceFileError, match="journal, is not that of a trace") as caught:
        TraceFile(path)
    assert "\n" not in str(caught.value)
    TraceWriter(path, force=True).close()
    assert victim.read_text() == "keep me"
    assert not Path(f"{path}-journal").exists()


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_lies_beside_a_trace_is_an_ordinary_file(tmp_path: Path, suffix: str, kind: str) -> None:
    path, victim = tmp_path / "run.trace", tmp_path / "victim"
    write_trace(path, 1)
    victim.write_text("keep me")
    beside = Path(f"{path}{suffix}")
    if kind == "pipe":
        os.mkfifo(beside)
    elif kind == "link":
        beside.symlink_to(victim)
    else:
        beside.mkdir()
    with pytest.raises(TraceFileError, match=f"run.trace{suffix}, is not that of a trace"):
        TraceFile(path)
    assert victim.read_text() == "keep me"


def test_the_journal_of_another_program_is_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other", isolation_level=None)
    other.execute("PRAGMA cache_size=1")
    other.execute("CREATE TABLE some (data)")
    other.executemany("INSERT INTO some VALUES (?)", [(bytes(3000),)] * 50)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE some SET data = randomblob(3000)")
    path = tmp_path / "run.trace"
    shutil.copy(tmp_path / "other", path)
    shutil.copy(tmp_path / "other-journal", f"{path}-journal")
    other.close()
    before = path.read_bytes()
    with pytest.raises(TraceFileError):
        TraceFile(path)
    assert path.read_bytes() == before
    assert Path(f"{path}-journal").exists()


def test_an_empty_journal_means_nothing(tmp_path: Path) -> None:
    steps = write_trace(tmp_path / "run.trace", 2)
    (tmp_path / "run.trace-journal").touch()
    with TraceFile(tmp_path / "run.trace") as recording:
        assert_same_steps(recording.steps, steps)


def test_a_write_in_progress_is_not_undone(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    steps = write_trace(path, 3)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode=DELETE").fetchall()
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE choice SET probability = 0.5")
    with TraceFile(path) as recording:
        assert_same_steps(recording.steps, steps)
    writer.execute("COMMIT")
    writer.close()
    assert not check_file(path).ok
