"""A killed process, a full disk, a folder that goes away: what was committed is there."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.support.prepared import PreparedProcess
from tests.support.synthetic import synthetic_end
from tests.tracer.tracefile.samples import (
    assert_same_steps,
    header,
    some_tokens,
    steps,
    tensors,
    write_trace,
)
from tests.tracer.tracefile.unprivileged import REPOSITORY, run_unprivileged
from tracer.errors import IncompleteTraceError
from tracer.tracefile import TraceFile, TraceWriter, check_file


def start_writer(path: Path, together: int = 1) -> Popen[str]:
    command = [sys.executable, "-m", "tests.tracer.tracefile.crashing_writer", str(path), str(together)]
    return PreparedProcess(command, cwd=REPOSITORY, stdout=PIPE, text=True)


def kill_after(path: Path, seconds: float, together: int = 1) -> int:
    """Let the writer run for a while after its first step, kill it; the last step it said was committed."""
    with start_writer(path, together) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        committed = (first + process.stdout.read()).split("\n")[:-1]
    return int(committed[-1])


def check_kills(folder: Path, count: int, together: int = 1) -> None:
    moments = random.Random(0)
    for number in range(count):
        path = folder / f"{number}.trace"
        committed = kill_after(path, moments.uniform(0, 0.15), together)
        with TraceFile(path) as recording:
            found = [step.number for step in recording.steps]
            # One more transaction may have been committed before its number was printed.
            assert found in [list(range(1, last + 1)) for last in (committed, committed + together)]
            assert not recording.complete
        report = check_file(path)
        assert report.ok, report.problems
        assert not report.complete
        assert report.runs[0].status is None
        # The first reader has merged the log: one file to share.
        assert [entry.name for entry in folder.glob(f"{number}.trace*")] == [path.name]


def test_kill_9_loses_no_committed_step(tmp_path: Path) -> None:
    check_kills(tmp_path, 10)


def test_kill_9_leaves_all_steps_of_a_transaction_or_none(tmp_path: Path) -> None:
    check_kills(tmp_path, 5, together=8)


@pytest.mark.slow
@pytest.mark.parametrize("together", [1, 8])
def test_a_hundred_kills_lose_no_committed_step(together: int, tmp_path: Path) -> None:
    check_kills(tmp_path, 100, together)


def test_readers_do_not_disturb_a_writer_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    with start_writer(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen = 0
        for _ in range(20):
            with TraceFile(path) as recording:
                assert len(recording.steps) >= seen
                seen = len(recording.steps)
                # The writer may have committed more in the meantime.
                assert recording.steps[-1].number >= seen
            time.sleep(0.01)
        process.kill()
        committed = int(process.stdout.read().split("\n")[-2])
    with TraceFile(path) as recording:
        assert len(recording.steps) in (committed, committed + 1)
    assert check_file(path).ok


def test_a_killed_trace_is_readable_in_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    committed = kill_after(folder / "run.trace", 0.05)
    assert (folder / "run.trace-wal").exists()
    for entry in folder.iterdir():
        entry.chmod(0o444)
    folder.chmod(0o555)
    code = """
try:
    recording = tracer.tracefile.TraceFile(sys.argv[1])
    print(len(recording.steps), recording.complete)
except tracer.errors.TraceFileError as error:
    print(error)
"""
    found, complete = run_unprivileged(code, folder / "run.trace").split()
    assert int(found) in (committed, committed + 1)
    assert complete == "False"
    # Copied without the file that SQLite needs beside the log: it cannot be read here, and why is said.
    folder.chmod(0o755)
    (folder / "run.trace-shm").unlink()
    folder.chmod(0o555)
    message = run_unprivileged(code, folder / "run.trace")
    assert "its last steps are in" in message
    assert "copy both files" in message


def test_a_trace_copied_while_in_use_is_readable_in_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    write_trace(folder / "run.trace", 3)
    with contextlib.closing(sqlite3.connect(folder / "run.trace")) as connection:
        # So the header of a file reads while its run is being written.
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
    assert [entry.name for entry in folder.iterdir()] == ["run.trace"]
    (folder / "run.trace").chmod(0o444)
    folder.chmod(0o555)
    code = "r = tracer.tracefile.TraceFile(sys.argv[1]); print(len(r.steps), r.complete)"
    assert run_unprivileged(code, folder / "run.trace").strip() == "3 True"


def test_a_closed_trace_is_readable_in_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    write_trace(folder / "run.trace", 3)
    (folder / "run.trace").chmod(0o444)
    folder.chmod(0o555)
    code = "r = tracer.tracefile.TraceFile(sys.argv[1]); print(len(r.steps), r.complete)"
    assert run_unprivileged(code, folder / "run.trace").strip() == "3 True"


def test_a_trace_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", 1)
    (tmp_path / "run.trace").chmod(0)
    message = run_unprivileged("tracer.tracefile.TraceFile(sys.argv[1])", tmp_path / "run.trace")
    assert "TraceFileError: cannot read" in message
    assert "Permission denied" in message


def test_a_full_file_keeps_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    written = steps(30)
    writer = TraceWriter(path)
    writer.begin_run(header())
    assert writer._connection is not None
    pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
    writer._connection.execute(f"PRAGMA max_page_count = {pages + 15}").fetchall()
    message = r"run\.trace ends before step \d+: database or disk is full"
    with pytest.raises(IncompleteTraceError, match=message):  # noqa: PT012 - one of the steps is too much
        for step in written:
            writer.write_step(step)
    with pytest.raises(IncompleteTraceError, match="ends before"):
        writer.write_step(written[-1])
    writer.close()
    with TraceFile(path) as recording:
        assert 0 < len(recording.steps) < 30
        assert_same_steps(recording.steps, written[: len(recording.steps)])
        assert not recording.complete
    assert check_file(path).ok


def test_a_file_size_limit_keeps_what_was_written(tmp_path: Path) -> None:
    code = """
import resource, signal
from tracer.errors import IncompleteTraceError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = tracer.tracefile.TraceWriter(sys.argv[1])
writer.begin_run(samples.header())
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    for step in samples.steps(200):
        writer.write_step(step)
        print(step.number)
except IncompleteTraceError as error:
    print(error)
try:
    writer.close()
except IncompleteTraceError as error:
    print(error)
"""
    path = tmp_path / "run.trace"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; from tests.tracer.tracefile import samples; import tracer.tracefile\n{code}",
            str(path),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    committed = [int(line) for line in lines if line.isdigit()]
    assert 0 < len(committed) < 200
    assert "ends before step" in lines[len(committed)]
    with TraceFile(path) as recording:
        assert [step.number for step in recording.steps] == committed


@pytest.mark.parametrize("replacement", [False, True])
def test_a_vanished_folder_is_noticed(tmp_path: Path, replacement: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "run.trace"
    written = steps(2)
    writer = TraceWriter(path)
    writer.begin_run(header())
    writer.write_step(written[0])
    shutil.rmtree(folder)
    if replacement:
        folder.mkdir()
        path.write_text("somebody else's")
    with pytest.raises(IncompleteTraceError, match="was deleted or replaced while it was written"):
        writer.write_step(written[1])
    with pytest.raises(IncompleteTraceError, match="was deleted or replaced"):
        writer.close()
    writer.close()
    if replacement:
        assert path.read_text() == "somebody else's"


def test_an_interrupted_step_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.trace"
    first, second = steps(2)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with TraceWriter(path) as writer:
        writer.begin_run(header())
        writer.write_step(first)
        with monkeypatch.context() as patch:
            patch.setattr("tracer.tracefile.writing.writer.insert_tensors", interrupt)
            with pytest.raises(KeyboardInterrupt):
                writer.write_step(second, some_tokens(), tensors())
        writer.write_step(second, some_tokens())
        writer.end_run(1, synthetic_end(header(), 2))
    report = check_file(path)
    assert report.ok
    assert report.complete
    assert report.tokens == 20
