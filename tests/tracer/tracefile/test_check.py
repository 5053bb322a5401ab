"""check_file finds every change; stamps are kept with the trace."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.support.synthetic import synthetic_end
from tests.tracer.tracefile.samples import header, some_tokens, steps, tensors, with_faults, write_trace
from tracer.errors import OutputError, TraceFileError
from tracer.schema.run import RunStatus
from tracer.schema.stamp import Stamp
from tracer.tracefile import TraceFile, TraceWriter, check_file, stamp
from tracer.tracefile.format import SCHEMA_VERSION


def make_stamp(**changes: object) -> Stamp:
    base = Stamp(kind="file", ok=True, made_at="2026-01-02T03:04:05Z", summary="all digests hold")
    return base.model_copy(update=changes)


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(statement).rowcount > 0, statement
    connection.close()


def test_a_sound_trace(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, 4, rows=2, runs=2, saved=True)
    report = check_file(path)
    assert report.ok
    assert report.complete
    assert [(run.number, run.status, run.steps) for run in report.runs] == [
        (1, RunStatus.COMPLETE, 4),
        (2, RunStatus.COMPLETE, 4),
    ]
    assert report.runs[0].tensors == 8
    assert report.runs[0].tensor_bytes == 4 * (48 + 12)
    assert report.tokens == 4
    assert report.info.format_version == SCHEMA_VERSION


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE run SET header = replace(header, '7615616512', '7615616513')",
        "UPDATE run SET ending = replace(ending, 'complete', 'failed')",
        "UPDATE run SET ending = NULL",
        "UPDATE step SET scores = zeroblob(length(scores)) WHERE step = 2",
        "UPDATE step SET modules = NULL WHERE step = 2",
        "UPDATE step SET cache = substr(cache, 1, 20) WHERE step = 3",
        "UPDATE step SET head = (SELECT head FROM step WHERE step = 1) WHERE step = 2",
        "UPDATE step SET tensors = 1 WHERE step = 2",
        "UPDATE step SET seconds = 99 WHERE step = 2",
        "UPDATE step SET step = 9 WHERE step = 4",
        "DELETE FROM step WHERE step = 2",
        "DELETE FROM choice WHERE step = 2",
        "UPDATE choice SET probability = 0.999 WHERE step = 2",
        "UPDATE stage SET removed = removed + 1 WHERE step = 3 AND stage = 1",
        "UPDATE violation SET message = 'fine'",
        "DELETE FROM capture_error",
        "INSERT INTO choice SELECT run, 77, row, token, probability, rank, entropy, candidates, raw_logit, "
        "runner_up, runner_up_probability, finished FROM choice WHERE step = 1",
        "UPDATE token SET text = 'evil' WHERE id = 2",
        "UPDATE layout SET data = replace(data, '1,2', '2,1')",
        "UPDATE call_shape SET data = replace(data, '3584', '3585')",
        "UPDATE tensor SET data = zeroblob(length(data)) WHERE step = 1 AND name = 'logits'",
        "UPDATE tensor SET dtype = 'int32' WHERE step = 1 AND name = 'logits'",
        "DELETE FROM tensor WHERE step = 1 AND name = 'logits'",
        "UPDATE stamp SET data = replace(data, 'true', 'false')",
    ],
)
def test_every_change_is_found(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "run.trace"
    first, second, third, fourth = steps(4)
    with TraceWriter(path) as writer:
        writer.begin_run(header())
        for step in (first, second, with_faults(third), fourth):
            writer.write_step(step, some_tokens(), tensors())
        writer.end_run(1, synthetic_end(header(), 4))
    stamp(path, make_stamp())
    assert check_file(path).ok
    change(path, statement)
    report = check_file(path)
    assert report.problems
    assert all("\n" not in problem for problem in report.problems)


def test_a_removed_end_of_a_run_is_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, 3)
    change(path, "UPDATE run SET ending = NULL, steps_digest = NULL, ending_digest = NULL")
    report = check_file(path)
    assert report.ok
    assert not report.complete


def test_missing_steps_are_named(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, 5)
    change(path, "DELETE FROM step WHERE step IN (2, 5)")
    report = check_file(path)
    assert report.runs[0].missing == (2, 5)
    assert not report.complete
    with TraceFile(path) as recording:
        assert [step.number for step in recording.steps] == [1, 3, 4]


def test_stamps_belong_to_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, 1, runs=2)
    stamps = [make_stamp(), make_stamp(kind="rerun", run=2, ok=False, details={"ids": "3 of 4 equal"})]
    for record in stamps:
        stamp(path, record)
    with TraceFile(path) as recording:
        assert recording.run(1).stamps == (stamps[0],)
        assert recording.run(2).stamps == tuple(stamps)
    assert check_file(path).ok
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.trace"]


def test_a_stamp_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match="no such file"):
        stamp(tmp_path / "no.trace", make_stamp())
    write_trace(tmp_path / "run.trace", 1)
    connection = sqlite3.connect(tmp_path / "run.trace")
    connection.execute("CREATE TRIGGER evil AFTER INSERT ON stamp BEGIN DELETE FROM step; END")
    connection.close()
    with pytest.raises(TraceFileError, match="unexpected trigger evil"):
        stamp(tmp_path / "run.trace", make_stamp())


def test_a_stamp_on_a_locked_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, 1)
    monkeypatch.setattr("tracer.tracefile.stamps.BUSY_SECONDS", 0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutputError, match="locked"):
        stamp(path, make_stamp())
    other.close()
