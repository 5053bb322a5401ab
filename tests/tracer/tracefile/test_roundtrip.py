"""What is written is what is read."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.synthetic import synthetic_end
from tests.tracer.tracefile.samples import (
    assert_same_steps,
    header,
    some_tokens,
    steps,
    tensors,
    with_faults,
    write_trace,
)
from tracer.errors import TraceFileError, UsageError
from tracer.tracefile import SavedTensor, TraceFile, TraceWriter, check_file
from tracer.tracefile import format as trace_format


@pytest.mark.parametrize("rows", [1, 3])
def test_a_run_comes_back(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "run.trace"
    expected = write_trace(path, 5, rows=rows)
    with TraceFile(path) as recording:
        assert recording.header == header(rows)
        assert recording.end == synthetic_end(header(rows), 5)
        assert recording.complete
        assert_same_steps(recording.steps, expected)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.trace"]


def test_steps_are_a_sequence(tmp_path: Path) -> None:
    expected = write_trace(tmp_path / "run.trace", 5)
    with TraceFile(tmp_path / "run.trace") as recording:
        found = recording.steps
        assert len(found) == 5
        assert [found[0].number, found[-1].number, found.number(3).number] == [1, 5, 3]
        assert [step.number for step in found[1:4:2]] == [2, 4]
        assert [step.number for step in reversed(found)] == [5, 4, 3, 2, 1]
        with pytest.raises(IndexError, match=r"out of range \(5 steps\)"):
            found[5]
        for number in (0, 6, -1, 1 << 70):
            with pytest.raises(KeyError):
                found.number(number)
        assert found[0].candidates == expected[0].candidates


def test_optional_parts_may_be_missing(tmp_path: Path) -> None:
    (step,) = steps(1)
    bare = replace(step, scores=None, modules=None, cache=None, layout=None, shapes={})
    bare = replace(bare, head=step.head.model_copy(update={"layout": None, "update": None, "forward": None}))
    with TraceWriter(tmp_path / "run.trace") as writer:
        writer.begin_run(header())
        writer.write_step(bare)
    with TraceFile(tmp_path / "run.trace") as recording:
        assert_same_steps(recording.steps, [bare])
    assert check_file(tmp_path / "run.trace").ok


def test_several_runs_in_one_file(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", 2, runs=3)
    with TraceFile(tmp_path / "run.trace") as recording:
        assert [run.number for run in recording.runs] == [1, 2, 3]
        assert [step.head.run for run in recording.runs for step in run.steps] == [1, 1, 2, 2, 3, 3]
        assert recording.run(2).complete
        with pytest.raises(UsageError, match="has no run 4; it has 3"):
            recording.run(4)


def test_tokens_are_looked_up(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", 6)
    with TraceFile(tmp_path / "run.trace") as recording:
        assert dict(recording.tokens) == {token.id: token for token in some_tokens(6)}
        assert recording.tokens[5].text == "\x1b[31m"
        assert recording.tokens.get(1 << 80) is None
        assert 4000 not in recording.tokens


def test_tensors_keep_their_dtype(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", 2, saved=True)
    with TraceFile(tmp_path / "run.trace") as recording:
        run = recording.runs[0]
        assert run.tensor_names(2) == ("hidden/0", "logits")
        np.testing.assert_array_equal(run.tensor(2, "logits"), tensors(2)["logits"].array())
        assert run.saved_tensor(1, "hidden/0").dtype == "bfloat16"
        assert bytes(run.saved_tensor(1, "hidden/0").data) == bytes(tensors(1)["hidden/0"].data)
        assert run.tensor_names(3) == ()
        with pytest.raises(KeyError):
            run.tensor(2, "nothing")


def test_a_large_tensor_is_stored_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.tracefile.writing.statements.TENSOR_PART", 1000)
    values = np.random.default_rng(0).normal(size=(7, 91))
    (step,) = steps(1)
    with TraceWriter(tmp_path / "run.trace") as writer:
        writer.begin_run(header())
        writer.write_step(step, (), {"x": SavedTensor("float64", (7, 91), values.data)})
    with TraceFile(tmp_path / "run.trace") as recording:
        np.testing.assert_array_equal(recording.runs[0].tensor(1, "x"), values)
    assert check_file(tmp_path / "run.trace").runs[0].tensors == 1


def test_many_tensors_of_any_size_are_all_kept(tmp_path: Path) -> None:
    # More than fit into one statement, in number and in bytes; the long ones stand among short ones.
    values = {
        f"t{number}": np.full(300_000 if number % 25 == 3 else 5, number, dtype=np.float32)
        for number in range(150)
    }
    (step,) = steps(1)
    with TraceWriter(tmp_path / "run.trace") as writer:
        writer.begin_run(header())
        saved = {name: SavedTensor("float32", array.shape, array.data) for name, array in values.items()}
        writer.write_step(step, (), saved)
    with TraceFile(tmp_path / "run.trace") as recording:
        run = recording.runs[0]
        assert set(run.tensor_names(1)) == set(values)
        for name, array in values.items():
            np.testing.assert_array_equal(run.tensor(1, name), array)
    assert check_file(tmp_path / "run.trace").ok


def test_hostile_names_and_texts_are_only_data(tmp_path: Path) -> None:
    name = "'); DROP TABLE step; --\x00\n\u202e"
    token = some_tokens(1)[0].model_copy(update={"text": name, "piece": name})
    (step,) = steps(1)
    with TraceWriter(tmp_path / "run.trace") as writer:
        writer.begin_run(header())
        writer.write_step(step, [token], {name: tensors()["logits"]})
    with TraceFile(tmp_path / "run.trace") as recording:
        assert recording.tokens[token.id].text == name
        assert recording.runs[0].tensor_names(1) == (name,)
        assert recording.runs[0].tensor(1, name).shape == (1, 12)


def test_plain_tables_answer_sql(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    first, second = steps(2, rows=2)
    with TraceWriter(path) as writer:
        writer.begin_run(header(2))
        writer.write_step(first, some_tokens())
        writer.write_step(with_faults(second), some_tokens(60))
    connection = sqlite3.connect(path)
    for step in (first, second):
        assert step.scores is not None
        for row in range(2):
            found = connection.execute(
                "SELECT token, probability, rank, candidates, raw_logit, runner_up, runner_up_probability "
                "FROM choice WHERE step = ? AND row = ?",
                (step.number, row),
            ).fetchone()
            choice, listed = step.choice(row), step.candidates_of(row)
            assert choice is not None
            assert found[:3] == (choice.token, choice.probability, choice.rank)
            assert found[3] == step.scores.candidates[row]
            assert found[4] == pytest.approx(25.125)
            other = next(candidate for candidate in listed if candidate.token != choice.token)
            assert found[5:] == (other.token, pytest.approx(other.probability))
    text = "SELECT step, text FROM choice JOIN token ON token.id = choice.token WHERE row = 0 ORDER BY step"
    assert connection.execute(text).fetchall() == [(1, " word11"), (2, "sub12")]
    stages = connection.execute(
        "SELECT count(*), max(stage) FROM stage WHERE step = 1 AND row = 1"
    ).fetchone()
    assert stages == (5, 4)
    assert connection.execute("SELECT step, proof, layer FROM violation").fetchall() == [(2, "cache", 1)]
    assert connection.execute("SELECT step, stop FROM capture_error").fetchall() == [
        (2, "softmax"),
        (2, "layers"),
    ]
    columns = json.loads(connection.execute("SELECT value FROM meta WHERE key = 'columns'").fetchone()[0])
    assert columns["cache"] == [["key_norm", "LBHN"], ["value_norm", "LBHN"]]
    connection.close()


def test_identity_is_in_the_file(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", 1)
    data = (tmp_path / "run.trace").read_bytes()
    assert data[68:72] == b"TrGe"
    assert int.from_bytes(data[60:64], "big") == trace_format.SCHEMA_VERSION
    assert trace_format.SCHEMA_VERSION in trace_format.HISTORY


def test_a_contradictory_step_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    first, second, third = steps(3)
    with TraceWriter(tmp_path / "run.trace") as writer:
        writer.begin_run(header())
        writer.write_step(first)
        with pytest.raises(ValueError, match="comes after"):
            writer.write_step(first)
        with pytest.raises(ValueError, match="differ in rows"):
            writer.write_step(replace(steps(2, rows=2)[1]))
        with pytest.raises(ValueError, match="call shape 2 is unknown"):
            writer.write_step(replace(second, shapes={}))
        other = steps(2, rows=3)[1].shapes
        with pytest.raises(ValueError, match="call shape 1 was another one before"):
            writer.write_step(replace(second, modules=first.modules, shapes=other))
        with pytest.raises(ValueError, match="no open run 7"):
            writer.write_step(replace(second, head=second.head.model_copy(update={"run": 7})))
        writer.write_step(third)
    with TraceFile(tmp_path / "run.trace") as recording:
        assert [step.number for step in recording.steps] == [1, 3]
        assert recording.steps[-1].number == 3
    assert check_file(tmp_path / "run.trace").runs[0].missing == (2,)


def test_a_call_shape_that_comes_and_goes_is_stored_once(tmp_path: Path) -> None:
    first, second, third = steps(3)
    assert first.modules is not None
    assert second.modules is not None
    assert set(first.modules.shapes.tolist()) != set(second.modules.shapes.tolist())
    (gone,) = {*first.modules.shapes.tolist()} - {*second.modules.shapes.tolist()}
    second = replace(second, shapes={n: shape for n, shape in second.shapes.items() if n != gone})
    last = replace(third, modules=first.modules, shapes=first.shapes)
    other = steps(2, rows=3)[1].shapes
    with TraceWriter(tmp_path / "run.trace") as writer:
        writer.begin_run(header())
        writer.write_step(first)
        writer.write_step(second)
        with pytest.raises(ValueError, match=f"call shape {gone} was another one before"):
            writer.write_step(replace(last, shapes={**first.shapes, gone: other[gone]}))
        writer.write_step(last)
    with TraceFile(tmp_path / "run.trace") as recording:
        read = recording.steps[-1]
        assert read.modules is not None
        assert read.modules.shapes.tolist() == first.modules.shapes.tolist()
        assert all(first.shapes[number] == shape for number, shape in read.shapes.items())


def test_a_closed_writer_and_reader_say_so(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", 1)
    recording = TraceFile(tmp_path / "run.trace")
    recording.close()
    recording.close()
    with pytest.raises(TraceFileError, match="has been closed"):
        recording.steps.number(1)
    writer = TraceWriter(tmp_path / "other.trace")
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.begin_run(header())


def test_a_file_without_a_run(tmp_path: Path) -> None:
    TraceWriter(tmp_path / "run.trace").close()
    with TraceFile(tmp_path / "run.trace") as recording:
        assert not recording.complete
        assert recording.runs == ()
        assert "no run" in repr(recording)
        with pytest.raises(TraceFileError, match="holds no run"):
            _ = recording.header


def test_a_reader_follows_a_run_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    written = steps(3)
    with TraceWriter(path) as writer, TraceFile(path) as recording:
        assert recording.runs == ()
        writer.begin_run(header())
        for step in written:
            writer.write_step(step, some_tokens(step.number))
            assert len(recording.steps) == step.number
            assert_same_steps([recording.steps[-1]], [step])
            assert len(recording.tokens) == step.number
        assert recording.end is None
        writer.end_run(1, synthetic_end(header(), 3))
        assert recording.complete
    # The reader kept the log in use when the writer closed; the next one cleans up.
    with TraceFile(path) as recording:
        assert len(recording.steps) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.trace"]


def test_reading_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", 2)
    code = (
        "import sys; from tracer.tracefile import TraceFile; TraceFile(sys.argv[1]).steps[-1]; "
        "print(sorted({'torch', 'transformers', 'safetensors', 'jinja2'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run.trace")], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
