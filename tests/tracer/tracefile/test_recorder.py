"""The background writer: complete, bounded, and never in the way of the generation."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.synthetic import synthetic_end
from tests.tracer.tracefile.samples import (
    assert_same_steps,
    header,
    some_tokens,
    steps,
    tensors,
    write_trace,
)
from tests.tracer.tracefile.unprivileged import REPOSITORY
from tracer.errors import IncompleteTraceError
from tracer.schema.faults import CaptureError
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.step import Step
from tracer.tracefile import EndWrite, Recorder, SavedTensor, StepWrite, TraceFile, TraceWriter, check_file
from tracer.tracefile.writing.staged_step import StagedStep
from tracer.tracefile.writing.statements import insert_steps

pytestmark = pytest.mark.timeout(60)


@dataclass
class StepJob:
    """A job that has its step ready."""

    write: StepWrite
    nbytes: int = 1000
    fault: Exception | None = None
    wait: Callable[[], object] = lambda: None

    def build(self) -> StepWrite:
        self.wait()
        if self.fault is not None:
            raise self.fault
        return self.write


def jobs(count: int, **changes: Any) -> Iterator[StepJob]:
    for step in steps(count):
        yield StepJob(StepWrite(step, some_tokens(step.number)), **changes)


def end(count: int) -> Callable[[], EndWrite]:
    return lambda: EndWrite(synthetic_end(header(), count))


@dataclass
class Witness:
    """A listener that notes what it is told."""

    events: list[str] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    known: list[int] = field(default_factory=list)

    def on_run(self, number: int, header: RunHeader, tokens: Mapping[int, TokenText]) -> None:
        self.events.append(f"run {number}")

    def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
        self.events.append(f"step {step.number}")
        self.threads.add(threading.current_thread().name)
        self.known.append(len(tokens))

    def on_end(self, end: RunEnd) -> None:
        self.events.append(f"end {end.steps}")


class Broken(Witness):
    """A listener that fails each time."""

    def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
        super().on_step(step, tokens)
        raise RuntimeError("display is gone\nfor good")


def put_together(recorder: Recorder, count: int) -> None:
    """Begin a run and put steps, none of which the writer takes before all are there."""
    begun, all_wait = threading.Event(), threading.Event()

    def no_tokens() -> tuple[TokenText, ...]:
        begun.set()
        all_wait.wait()
        return ()

    recorder.begin_run(header(), no_tokens)
    begun.wait()
    for job in jobs(count):
        recorder.put(job)
    all_wait.set()


INSERT = "tracer.tracefile.writing.writer.insert_steps"


def noting(counts: list[int], insert: Callable[..., None]) -> Callable[..., None]:
    """The function that stores steps, noting how many it is given."""

    def insert_noting(connection: sqlite3.Connection, staged: Sequence[StagedStep]) -> None:
        counts.append(len(staged))
        insert(connection, staged)

    return insert_noting


def test_everything_is_written_and_told(tmp_path: Path) -> None:
    path, witness = tmp_path / "run.trace", Witness()
    recorder = Recorder(TraceWriter(path), listeners=[witness])
    for run in (1, 2):
        assert recorder.begin_run(header()) == run
        for step in steps(3, run=run):
            recorder.put(StepJob(StepWrite(step, some_tokens(step.number), tensors())))
        recorder.end_run(run, end(3))
    recorder.flush()
    assert witness.events == ["run 1", "step 1", "step 2", "step 3", "end 3", *["run 2"], *witness.events[6:]]
    assert len(witness.events) == 10
    recorder.close()
    recorder.close()
    assert witness.threads == {"trace-writer"}
    assert witness.known[:3] == [1, 2, 3]
    assert recorder.failure is None
    assert recorder.dropped == 0
    with TraceFile(path) as recording:
        assert recording.complete
        assert_same_steps(recording.steps, steps(3))
    assert check_file(path).ok
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.trace"]


def test_listeners_are_told_after_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    found: list[tuple[int, int]] = []

    class Reader(Witness):
        def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
            with TraceFile(path) as recording:
                found.append((step.number, recording.steps.number(step.number).number))

    with Recorder(TraceWriter(path), listeners=[Reader()]) as recorder:
        recorder.begin_run(header())
        for job in jobs(3):
            recorder.put(job)
    assert found == [(1, 1), (2, 2), (3, 3)]


def test_steps_that_wait_share_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(INSERT, noting(counts, insert_steps))
    with Recorder(TraceWriter(tmp_path / "run.trace")) as recorder:
        put_together(recorder, 40)
    assert counts == [32, 8]
    assert check_file(tmp_path / "run.trace").ok


def test_the_end_of_a_run_comes_after_the_steps_that_are_staged(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    with TraceWriter(path) as writer:
        writer.begin_run(header())
        for step in steps(3):
            writer.stage_step(step, some_tokens(step.number), tensors())
        writer.end_run(1, synthetic_end(header(), 3))
    assert check_file(path).whole
    with TraceFile(path) as recording:
        assert_same_steps(recording.steps, steps(3))


def test_where_steps_cannot_be_committed_together_each_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, counts, witness = tmp_path / "run.trace", list[int](), Witness()
    insert = noting(counts, insert_steps)

    def fragile(connection: sqlite3.Connection, staged: Sequence[StagedStep]) -> None:
        insert(connection, staged)
        if len(staged) > 1 or staged[0].step.number > 4:
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(INSERT, fragile)
    with Recorder(TraceWriter(path), listeners=[witness]) as recorder:
        put_together(recorder, 6)
    assert counts == [6, 1, 1, 1, 1, 1]
    assert "ends before step 5: database or disk is full" in str(recorder.failure)
    assert recorder.dropped == 2
    assert witness.events == ["run 1", *(f"step {number}" for number in range(1, 7))]
    with TraceFile(path) as recording:
        assert_same_steps(recording.steps, steps(6)[:4])
    assert check_file(path).ok


def test_a_step_that_cannot_be_committed_is_replaced_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.trace"

    def fragile(connection: sqlite3.Connection, staged: Sequence[StagedStep]) -> None:
        if any(each.step.number == 2 and each.step.scores is not None for each in staged):
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        insert_steps(connection, staged)

    monkeypatch.setattr(INSERT, fragile)
    replacement = lambda job, _: StepWrite(replace(job.write.step, scores=None))  # noqa: E731
    with Recorder(TraceWriter(path), on_build_error=replacement) as recorder:
        recorder.begin_run(header())
        for job in jobs(3):
            recorder.put(job)
        recorder.end_run(1, end(3))
    assert (recorder.failure, recorder.dropped) == (None, 0)
    assert "OverflowError" in recorder.build_errors[0]
    with TraceFile(path) as recording:
        assert [step.scores is None for step in recording.steps] == [False, True, False]
    assert check_file(path).ok


def test_a_failing_listener_costs_nothing_but_its_own_events(tmp_path: Path) -> None:
    path, broken, witness = tmp_path / "run.trace", Broken(), Witness()
    with Recorder(TraceWriter(path), listeners=[broken, witness]) as recorder:
        recorder.begin_run(header())
        for job in jobs(3):
            recorder.put(job)
        recorder.end_run(1, end(3))
    assert recorder.failure is None
    assert recorder.listener_errors == ("Broken.on_step: RuntimeError: display is gone for good",) * 3
    assert witness.events == broken.events == ["run 1", "step 1", "step 2", "step 3", "end 3"]
    assert check_file(path).complete


def test_a_step_that_cannot_be_built_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"

    def replacement(job: Any, error: Exception) -> StepWrite:
        head = job.write.step.head
        fault = CaptureError(stop="softmax", message=f"{type(error).__name__}: {error}")
        return StepWrite(Step(head=head.model_copy(update={"errors": (fault,), "layout": None}), scores=None))

    with Recorder(TraceWriter(path), on_build_error=replacement) as recorder:
        recorder.begin_run(header())
        for job in jobs(3):
            job.fault = ValueError("no such tensor") if job.write.step.number == 2 else None
            recorder.put(job)
        recorder.end_run(1, end(3))
    assert recorder.build_errors == ("ValueError: no such tensor",)
    assert recorder.dropped == 0
    with TraceFile(path) as recording:
        assert [len(step.head.errors) for step in recording.steps] == [0, 1, 0]
        assert recording.complete


def test_without_a_replacement_the_step_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"

    def worse(job: object, error: Exception) -> StepWrite | None:
        raise OSError("worse")

    def nothing(job: object, error: Exception) -> StepWrite | None:
        return None

    for hook in (None, worse, nothing):
        with Recorder(TraceWriter(path, force=True), on_build_error=hook) as recorder:
            recorder.begin_run(header())
            for job in jobs(3):
                job.fault = MemoryError() if job.write.step.number == 2 else None
                recorder.put(job)
            recorder.end_run(1, end(3))
        assert recorder.dropped == 1
        assert recorder.failure is None
        assert check_file(path).runs[0].missing == (2,)


def test_a_contradictory_step_does_not_end_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"

    def again(job: Any, error: Exception) -> StepWrite:
        return StepWrite(job.write.step)

    with Recorder(TraceWriter(path), on_build_error=again) as recorder:
        recorder.begin_run(header())
        first, second, third = steps(3)
        for step in (first, steps(2, rows=2)[1], third):
            recorder.put(StepJob(StepWrite(step)))
        recorder.end_run(1, end(3))
    assert "differ in rows" in recorder.build_errors[0]
    assert recorder.dropped == 1
    assert check_file(path).runs[0].missing == (second.number,)


def test_a_failing_disk_never_reaches_the_generation(tmp_path: Path) -> None:
    path, witness = tmp_path / "run.trace", Witness()
    writer = TraceWriter(path)
    recorder = Recorder(writer, listeners=[witness], max_queue_bytes=2000)
    recorder.begin_run(header())
    for job in jobs(6):
        if job.write.step.number == 4:
            recorder.flush()
            path.unlink()
        recorder.put(job)
    recorder.end_run(1, end(6))
    recorder.close()
    assert isinstance(recorder.failure, IncompleteTraceError)
    assert "was deleted or replaced" in str(recorder.failure)
    assert recorder.dropped == 3
    assert witness.events == ["run 1", *(f"step {number}" for number in range(1, 7)), "end 6"]


@pytest.mark.parametrize("place", ["begin_run", "end_run", "close"])
def test_a_defect_in_the_writer_does_not_end_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def defect(*_: object) -> None:
        raise SystemExit("a defect\nof two lines")

    monkeypatch.setattr(TraceWriter, place, defect)
    recorder = Recorder(TraceWriter(tmp_path / "run.trace"), max_queue_bytes=10)
    recorder.begin_run(header())
    for job in jobs(3):
        recorder.put(job)
    recorder.end_run(1, end(3))
    recorder.close()
    assert isinstance(recorder.failure, IncompleteTraceError)
    assert "SystemExit: a defect of two lines" in str(recorder.failure)


def test_the_queue_is_bounded_by_bytes(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    with Recorder(TraceWriter(path), max_queue_bytes=3000) as recorder:
        recorder.begin_run(header())
        for job in list(jobs(12, wait=lambda: time.sleep(0.02))):
            recorder.put(job)
        recorder.end_run(1, end(12))
    assert 0 < recorder.queue_peak_bytes <= 3000
    assert recorder.queue_waits > 0
    assert recorder.queue_wait_seconds > 0
    assert check_file(path).complete


def test_one_job_larger_than_the_queue_passes(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    with Recorder(TraceWriter(path), max_queue_bytes=10) as recorder:
        recorder.begin_run(header())
        for job in jobs(3):
            recorder.put(job)
    assert recorder.queue_peak_bytes == 1000
    assert len(TraceFile(path).steps) == 3


def test_tensors_stop_at_the_size_limit_and_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    tensor = SavedTensor("uint8", (200_000,), bytes(200_000))
    with Recorder(TraceWriter(path), max_trace_bytes=500_000) as recorder:
        recorder.begin_run(header())
        for step in steps(5):
            recorder.put(StepJob(StepWrite(step, (), {"x": tensor})))
        recorder.flush()
        assert recorder.tensors_stopped_at == 3
        recorder.end_run(1, end(5))
    with TraceFile(path) as recording:
        assert [len(recording.runs[0].tensor_names(number)) for number in range(1, 6)] == [1, 1, 0, 0, 0]
        assert recording.complete
    assert path.stat().st_size < 600_000
    assert check_file(path).ok


def test_what_comes_after_close_is_ignored(tmp_path: Path) -> None:
    recorder = Recorder(TraceWriter(tmp_path / "run.trace"))
    recorder.begin_run(header())
    recorder.close()
    for job in jobs(1):
        recorder.put(job)
    recorder.flush()
    assert len(TraceFile(tmp_path / "run.trace").steps) == 0


def test_flush_on_the_writer_thread_does_not_wait_for_itself(tmp_path: Path) -> None:
    recorder: Recorder

    class Flushing(Witness):
        def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
            recorder.flush()

    recorder = Recorder(TraceWriter(tmp_path / "run.trace"), listeners=[Flushing()])
    recorder.begin_run(header())
    for job in jobs(2):
        recorder.put(job)
    recorder.close()


def test_a_debugger_leaves_the_thread_running(tmp_path: Path) -> None:
    with Recorder(TraceWriter(tmp_path / "run.trace")) as recorder:
        recorder.begin_run(header())
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "trace-writer"]
        assert thread.daemon
        assert getattr(thread, "pydev_do_not_trace", False)
        assert getattr(thread, "is_pydev_daemon_thread", False)


SLOW_PROGRAM = """
import sys, time
from pathlib import Path
from tests.tracer.tracefile.samples import header, steps
from tests.tracer.tracefile.test_recorder import StepJob, end
from tracer.tracefile import Recorder, StepWrite, TraceWriter

recorder = Recorder(TraceWriter(Path(sys.argv[1])))
recorder.begin_run(header())
for step in steps(20):
    recorder.put(StepJob(StepWrite(step), wait=lambda: time.sleep(0.05)))
recorder.end_run(1, end(20))
print("queued", flush=True)
"""


def run_program(path: Path, code: str, *, interrupt: bool) -> int:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_PROGRAM + code, str(path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "queued\n"
    if interrupt:
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    process.stdout.close()
    return process.wait(30)


def test_ctrl_c_while_closing_still_writes_everything(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    assert run_program(path, "recorder.close()", interrupt=True) != 0
    report = check_file(path)
    assert report.complete
    assert report.runs[0].steps == 20


def test_a_program_that_forgets_to_close_still_writes_everything(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    assert run_program(path, "", interrupt=False) == 0
    assert check_file(path).complete


def test_two_recorders_add_runs_to_one_trace_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, 2)
    first, second = Recorder(TraceWriter(path, append=True)), Recorder(TraceWriter(path, append=True))
    with first, second:
        for number, recorder in ((2, first), (3, second)):
            assert recorder.begin_run(header(), some_tokens) == number
            recorder.flush()
        for number, recorder in ((2, first), (3, second)):
            for step in steps(3, run=number):
                recorder.put(StepJob(StepWrite(step, some_tokens(step.number + 20))))
            recorder.end_run(number, lambda: EndWrite(synthetic_end(header(), 3)))
    assert (first.failure, second.failure) == (None, None)
    assert check_file(path).whole
    with TraceFile(path) as recording:
        assert [len(run.steps) for run in recording.runs] == [2, 3, 3]
