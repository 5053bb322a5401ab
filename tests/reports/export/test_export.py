"""Other programs read what export writes, and it is what the trace holds."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from reports.export.csv_file import write_csv
from reports.export.tables import TABLES
from tests.support.breadth import slow
from tests.support.command import Ended, call_main, trace_generate
from tests.support.models import SAMPLING, batch, tiny_model
from tests.support.synthetic import synthetic_end
from tests.tracer.tracefile.samples import header, steps, tensors, with_faults, write_trace
from tracer import open_trace, trace
from tracer.cli.commands.export import TABLE_NAMES
from tracer.schema.run import TokenText
from tracer.tracefile import TraceWriter

HOSTILE = ['"', ",", "\n", "\r\n", "\r", "=1+1", "<script>", "\x1b[31m", "\u202e", "", " ", "\x00", "\ufffd"]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str | Path) -> Ended:
        return call_main(capsys, "export", *arguments)

    return run


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a tiny bfloat16 model with everything saved."""
    path = tmp_path_factory.mktemp("real") / "run.trace"
    model = tiny_model().to(torch.bfloat16)
    torch.manual_seed(1)
    with trace(model, path=path, capture="tensors", save=["logits", "kv", "hidden"]):
        for _ in range(2):
            model.generate(**batch(3), max_new_tokens=5, pad_token_id=0, **SAMPLING)
    return path


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A trace whose chosen tokens have hostile texts."""
    path = tmp_path / "hostile.trace"
    count = len(HOSTILE)
    with TraceWriter(path) as writer:
        writer.begin_run(header())
        for step, text in zip(steps(count), HOSTILE, strict=True):
            token = TokenText(id=10 + step.number, text=text, piece=text or "▁")
            writer.write_step(with_faults(step), [token], {})
        writer.end_run(1, synthetic_end(header(), count))
    return path


def test_the_offered_tables_are_those_there_are() -> None:
    assert tuple(TABLES) == TABLE_NAMES


def test_csv_of_hostile_texts(hostile: Path, call: Any) -> None:
    assert call(hostile, "--format", "csv").returncode == 0
    data = hostile.with_suffix(".csv").read_bytes().decode()
    # Python 3.10 writes a NUL but refuses to read it.
    data, expected = (text.replace("\x00", "") for text in (data, "\t".join(HOSTILE)))
    rows = list(csv.DictReader(io.StringIO(data, newline="")))
    assert [row["text"] for row in rows] == expected.split("\t")
    assert list(rows[0]) == list(TABLES["choices"].columns)
    assert rows[0]["ended"] == "false"
    assert rows[0]["violations"] == "1"


def test_jsonl_and_parquet_of_hostile_texts(hostile: Path, call: Any) -> None:
    assert call(hostile, "--format", "jsonl").returncode == 0
    lines = [json.loads(line) for line in hostile.with_suffix(".jsonl").read_bytes().split(b"\n")[:-1]]
    assert [line["kind"] for line in lines] == ["trace", "run", *["step"] * len(HOSTILE), "end"]
    assert [line["choices"][0]["text"] for line in lines[2:-1]] == HOSTILE
    assert call(hostile, "--format", "parquet").returncode == 0
    table = pyarrow.parquet.read_table(hostile.with_suffix(".parquet"))
    assert table.column("text").to_pylist() == HOSTILE


def test_jsonl_holds_the_records(real: Path, tmp_path: Path, call: Any) -> None:
    done = call(real, "--format", "jsonl", "-o", tmp_path / "a.jsonl")
    assert done.stdout.strip() == f"{tmp_path / 'a.jsonl'}: 10 steps"
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with open_trace(real) as recording:
        for run in recording.runs:
            mine = [line for line in lines if line.get("run") == run.number]
            assert mine[0]["header"] == run.header.model_dump(mode="json")
            assert run.end is not None
            assert mine[-1]["end"] == run.end.model_dump(mode="json")
            for line, step in zip(mine[1:-1], run.steps, strict=True):
                assert line["step"] == step.number
                assert line["head"] == step.head.model_dump(mode="json")
                assert step.scores is not None
                assert [row["token"] for row in line["choices"]] == step.scores.chosen.tolist()
                assert step.modules is not None
                assert [row["nonfinite"] for row in line["modules"] if row["nonfinite"] is not None] == [
                    value for value in step.modules.nonfinite.tolist() if value >= 0
                ]
                assert step.cache is not None
                assert len(line["cache"]) == step.cache.key_norm.size
                assert {tensor["name"] for tensor in line["tensors"]} == set(run.tensor_names(step.number))


def test_every_table_as_csv_and_parquet(real: Path, tmp_path: Path, call: Any) -> None:
    for name, table in TABLES.items():
        csv_path, parquet_path = tmp_path / f"{name}.csv", tmp_path / f"{name}.parquet"
        assert call(real, "--format", "csv", "--table", name, "-o", csv_path, "--run", "2").returncode == 0
        assert (
            call(real, "--format", "parquet", "--table", name, "-o", parquet_path, "--run", "2").returncode
            == 0
        )
        read = pyarrow.parquet.read_table(parquet_path)
        with open_trace(real) as recording:
            expected = list(table.of_run(recording.run(2)))
        assert expected or name in ("beams", "rankings")
        assert read.column_names == list(table.columns)
        found = [tuple(row.values()) for row in read.to_pylist()]
        for one, other in zip(found, expected, strict=True):
            assert [str(cell) for cell in one] == [str(cell) for cell in other]
        with csv_path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
        assert lines[0] == list(table.columns)
        assert len(lines) == len(expected) + 1


def test_safetensors_hold_every_tensor(real: Path, tmp_path: Path, call: Any) -> None:
    out = tmp_path / "all.safetensors"
    done = call(real, "--format", "safetensors", "-o", out)
    assert done.returncode == 0, done.stderr
    loaded = load_file(out)
    with open_trace(real) as recording:
        expected = {
            f"run/{run.number}/step/{step}/{name}": run.saved_tensor(step, name)
            for run in recording.runs
            for step in run.steps.numbers
            for name in run.tensor_names(step)
        }
    assert loaded.keys() == expected.keys()
    for name, saved in expected.items():
        assert str(loaded[name].dtype) == f"torch.{saved.dtype}"
        assert tuple(loaded[name].shape) == saved.shape
        raw = loaded[name].contiguous().view(torch.uint8).numpy().tobytes()
        assert raw == saved.raw.tobytes(), name
    with safe_open(out, framework="pt") as file:
        assert file.metadata()["trace"] == "run.trace"


def test_the_cache_after_a_step(real: Path, tmp_path: Path, call: Any) -> None:
    out = tmp_path / "cache.safetensors"
    done = call(real, "--format", "safetensors", "--cache-at", "3", "--run", "1", "-o", out)
    assert done.returncode == 0, done.stderr
    loaded = load_file(out)
    assert sorted(loaded) == ["cache/0/key", "cache/0/value", "cache/1/key", "cache/1/value"]
    assert loaded["cache/0/key"].dtype == torch.bfloat16
    assert tuple(loaded["cache/0/key"].shape) == (3, 2, 8, 8)
    with open_trace(real) as recording:
        cache = recording.cache_at(3)
        np.testing.assert_array_equal(cache.value(1), loaded["cache/1/value"].float().numpy())


def test_what_cannot_be_exported_says_so(real: Path, tmp_path: Path, call: Any) -> None:
    plain = tmp_path / "plain.trace"
    write_trace(plain, 2)
    cases: list[tuple[int, str, list[str | Path]]] = [
        (2, "--save", [plain, "--format", "safetensors"]),
        (2, "--save kv", [plain, "--format", "safetensors", "--cache-at", "1"]),
        (2, "no step 9", [plain, "--format", "safetensors", "--cache-at", "9"]),
        (2, "--run", [real, "--format", "safetensors", "--cache-at", "1", "-o", tmp_path / "x"]),
        (2, "--table", [plain, "--format", "jsonl", "--table", "choices"]),
        (2, "--cache-at", [plain, "--format", "csv", "--cache-at", "1"]),
        (2, "no run 5", [plain, "--format", "csv", "--run", "5"]),
        (2, "--format", [plain]),
        (8, "none.trace", [tmp_path / "none.trace", "--format", "csv"]),
        (5, "is a folder", [plain, "--format", "csv", "-o", tmp_path]),
        (5, "cannot write", [plain, "--format", "csv", "-o", tmp_path / "no" / "a.csv"]),
    ]
    for code, words, arguments in cases:
        done = call(*arguments)
        assert done.returncode == code, arguments
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"plain.trace"}


def test_an_existing_file_is_kept(tmp_path: Path, call: Any) -> None:
    write_trace(tmp_path / "run.trace", 2)
    mine = tmp_path / "run.csv"
    mine.write_text("mine")
    done = call(tmp_path / "run.trace", "--format", "csv")
    assert done.returncode == 5
    assert "--force" in done.stderr
    assert mine.read_text() == "mine"
    assert call(tmp_path / "run.trace", "--format", "csv", "--force").returncode == 0
    assert mine.read_text().startswith("run,step,row,token,")


def test_a_damaged_trace_leaves_no_half_file(tmp_path: Path, call: Any) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, 4)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE step SET scores = zeroblob(length(scores)) WHERE step = 3")
    connection.close()
    done = call(path, "--format", "csv")
    assert done.returncode == 8
    assert {each.name for each in tmp_path.iterdir()} == {"run.trace"}


def test_to_standard_output_and_incomplete_runs(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", 3, end=False)
    done = trace_generate("export", tmp_path / "run.trace", "--format", "jsonl", "-o", "-")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()] == ["trace", "run", *["step"] * 3]


def test_without_pyarrow_one_line_says_what_to_install(
    tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_trace(tmp_path / "run.trace", 1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = call(tmp_path / "run.trace", "--format", "parquet")
    assert done.returncode == 2
    assert "pip install 'trace-generate[parquet]'" in done.stderr
    assert call(tmp_path / "run.trace", "--format", "csv").returncode == 0


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=5))
def test_csv_gives_any_text_back(texts: list[str]) -> None:
    if sys.version_info < (3, 11):
        texts = [text.replace("\x00", "") for text in texts]
    table = replace(TABLES["choices"], columns={"n": "int", "text": "text"})
    file = io.BytesIO()
    write_csv(file, table, enumerate(texts))
    rows = list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))
    assert rows == [["n", "text"], *([str(number), text] for number, text in enumerate(texts))]


@pytest.mark.parametrize("kind", ["jsonl", "safetensors", *slow("csv", "parquet")])
def test_memory_does_not_grow_with_the_trace(tmp_path: Path, call: Any, kind: str) -> None:
    peaks = []
    for count in (10, 60):
        path = tmp_path / f"{count}.trace"
        one = steps(1)[0]
        with TraceWriter(path) as writer:
            writer.begin_run(header())
            for number in range(1, count + 1):
                step = replace(one, head=one.head.model_copy(update={"step": number}))
                writer.write_step(step, [], tensors())
        call(path, "--format", kind)  # imports and caches
        tracemalloc.start()
        try:
            assert call(path, "--format", kind, "--force").returncode == 0
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # What grows is the list of tensor names of safetensors, a few hundred bytes a step.
    assert peaks[1] - peaks[0] < 50 * 4000


def test_a_pyarrow_that_cannot_be_imported_is_not_called_missing(
    tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a numpy that is too old for it."""
    write_trace(tmp_path / "run.trace", 1)
    (tmp_path / "pyarrow").mkdir()
    (tmp_path / "pyarrow" / "__init__.py").write_text("raise ImportError('numpy.core.multiarray failed')")
    for name in [each for each in sys.modules if each.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    done = call(tmp_path / "run.trace", "--format", "parquet")
    assert done.returncode == 2
    assert "numpy.core.multiarray failed" in done.stderr
    assert "trace-generate[parquet]" not in done.stderr
    assert done.stderr.count("\n") == 1
