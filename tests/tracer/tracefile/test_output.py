"""Where a new trace goes: nothing is overwritten by accident, and nothing is lost by a failed start."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path

import pytest

from tests.tracer.tracefile.samples import header, steps, write_trace
from tests.tracer.tracefile.unprivileged import run_unprivileged
from tracer.errors import IncompleteTraceError, OutputError
from tracer.tracefile import TraceFile, TraceWriter


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    path.write_text("precious")
    with pytest.raises(OutputError, match=r"run\.trace exists already.*force=True"):
        TraceWriter(path)
    assert path.read_text() == "precious"
    assert names(tmp_path) == ["run.trace"]


@pytest.mark.parametrize("old", [b"precious", b"", os.urandom(5000)])
def test_force_replaces_any_file(tmp_path: Path, old: bytes) -> None:
    path = tmp_path / "run.trace"
    path.write_bytes(old)
    (tmp_path / "run.trace-wal").write_bytes(b"left over")
    with TraceWriter(path, force=True) as writer:
        writer.begin_run(header())
    assert TraceFile(path).header == header()
    assert names(tmp_path) == ["run.trace"]


def test_left_over_logs_do_not_leak_into_a_new_trace(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    writer = TraceWriter(path)
    writer.begin_run(header())
    writer.write_step(steps(1)[0])
    log = (tmp_path / "run.trace-wal").read_bytes()
    writer.close()
    path.unlink()
    (tmp_path / "run.trace-wal").write_bytes(log)
    TraceWriter(path).close()
    assert TraceFile(path).runs == ()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.trace", tmp_path / "link.trace"
    target.write_text("old")
    link.symlink_to(target)
    with pytest.raises(OutputError, match="exists already"):
        TraceWriter(link)
    with TraceWriter(link, force=True) as writer:
        writer.begin_run(header())
    assert link.is_symlink()
    assert TraceFile(target).header == TraceFile(link).header


def test_a_dangling_link_is_not_written_through_without_force(tmp_path: Path) -> None:
    link = tmp_path / "link.trace"
    link.symlink_to(tmp_path / "nowhere.trace")
    with pytest.raises(OutputError, match="exists already"):
        TraceWriter(link)
    with TraceWriter(link, force=True) as writer:
        writer.begin_run(header())
    assert TraceFile(tmp_path / "nowhere.trace").header == header()


@pytest.mark.parametrize("force", [False, True])
def test_impossible_places_are_named(tmp_path: Path, force: bool) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for name, reason in {
        "folder": "it is a folder",
        "pipe": "not an ordinary file",
        "socket": "not an ordinary file",
        "missing/run.trace": "there is no folder .*missing",
        "file/run.trace": "Not a directory",
        "nul\0byte": "null",
        "x" * 300: "too long",
    }.items():
        with pytest.raises(OutputError, match=reason) as caught:
            TraceWriter(tmp_path / name, force=force)
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file", "folder", "pipe", "socket"]


def test_a_failed_start_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, 2)
    before = path.read_bytes()
    monkeypatch.setattr("tracer.tracefile.writing.creation.CREATE_TABLES", {"run": "CREATE TABLE nonsense"})
    with pytest.raises(OutputError, match=r"cannot write .*run\.trace"):
        TraceWriter(path, force=True)
    with pytest.raises(OutputError, match=r"cannot write .*new\.trace"):
        TraceWriter(tmp_path / "new.trace")
    assert path.read_bytes() == before
    assert names(tmp_path) == ["run.trace"]


def test_a_trace_that_is_being_written_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    with TraceWriter(path) as writer:
        writer.begin_run(header())
        with pytest.raises(OutputError, match="another program is writing or showing it"):
            TraceWriter(path, force=True)
        for step in steps(2):
            writer.write_step(step)
    assert len(TraceFile(path).steps) == 2
    assert names(tmp_path) == ["run.trace"]


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    write_trace(folder / "old.trace", 1)
    folder.chmod(0o555)
    (folder / "old.trace").chmod(0o444)
    code = """
from tracer.errors import IncompleteTraceError, OutputError
for force in (False, True):
    for name in ("new.trace", "old.trace"):
        try:
            tracer.tracefile.TraceWriter(f"{sys.argv[1]}/{name}", force=force)
        except OutputError as error:
            print(name, force, error)
"""
    lines = run_unprivileged(code, folder).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["new.trace", "False"],
        ["old.trace", "False"],
        ["new.trace", "True"],
        ["old.trace", "True"],
    ]
    assert "ermission denied" in lines[0]
    assert "exists already" in lines[1]
    assert names(folder) == ["old.trace"]
    assert len(TraceFile(folder / "old.trace").steps) == 1


def test_the_path_stays_right_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with TraceWriter("run.trace") as writer:
        monkeypatch.chdir("/")
        writer.begin_run(header())
        writer.write_step(steps(1)[0])
    assert len(TraceFile(tmp_path / "run.trace").steps) == 1


@pytest.mark.parametrize(
    "name", ["a b.trace", "100%.trace", "wer?x=1#y.trace", "ü日.trace", "'\".trace", "-x"]
)
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    write_trace(tmp_path / name, 1)
    with TraceFile(tmp_path / name) as recording:
        assert len(recording.steps) == 1
    assert names(tmp_path) == [name]


def test_a_file_name_need_not_be_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.trace")
    write_trace(path, 1)
    assert len(TraceFile(path).steps) == 1
    with pytest.raises(OutputError, match="exists already"):
        TraceWriter(path)


def test_a_database_of_another_program_can_be_replaced_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE x (y)")
    connection.close()
    with pytest.raises(OutputError):
        TraceWriter(path)
    TraceWriter(path, force=True).close()
    assert TraceFile(path).runs == ()


def test_a_run_that_another_writer_begins_at_the_same_time_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    write_trace(path)
    with TraceWriter(path, append=True) as first, TraceWriter(path, append=True) as second:
        first.begin_run(header())
        with pytest.raises(IncompleteTraceError, match="another program has just begun run 2 of"):
            second.begin_run(header())
