"""The main job through the real command, on a tiny checkpoint."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import EAGER, call_main, environment, trace_generate
from tests.support.prepared import PreparedProcess
from tracer import open_trace


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@dataclass(frozen=True)
class Printed:
    """What the command said about a run, and the trace of it."""

    said: CompletedProcess[str]
    out: Path


@pytest.fixture(scope="module")
def walkthrough(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Printed:
    out = tmp_path_factory.mktemp("walkthrough") / "run.trace"
    options = ("--prompt", "w10 w11", "--max-new-tokens", "5", "--seed", "1")
    return Printed(trace_generate("--model", checkpoint, *options, "--out", out), out)


def test_walkthrough_is_printed_and_recorded(walkthrough: Printed) -> None:
    done, out = walkthrough.said, walkthrough.out
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for title in (
        "run header",
        "prepare inputs",
        "layers",
        "forward result",
        "softmax",
        "choice",
        "stopping",
    ):
        assert title in done.stdout
    assert "generation/utils.py:2982" in done.stdout
    assert str(out) in done.stdout
    with open_trace(out) as recording:
        assert recording.complete
        assert recording.header.seed == 1
        assert len(recording.steps) == 5
        assert (
            recording.header.prompt[0].text
            == "<s> system You are a helpful assistant. </s> <s> user w10 w11 </s> <s> assistant "
        )
    shown = trace_generate("show", out)
    assert shown.returncode == 0
    assert f"{shown.stdout}report: {out.with_suffix('.html')}\n" == done.stdout


def test_batch_of_prompts_is_padded_at_the_left(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.trace"
    done = call_main(
        capsys,
        *("--model", checkpoint, "--prompt", "w10 w11 w12", "--prompt", "w13", "--greedy"),
        *("--max-new-tokens", "3", "--out", out, "--steps", "none"),
    )
    assert done.returncode == 0, done.stderr
    with open_trace(out) as recording:
        assert [row.padding for row in recording.header.prompt] == [0, 2]
        assert recording.steps[0].rows == 2


def test_json_and_quiet(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--model", checkpoint, "--prompt", "w10", "--max-new-tokens", "3", "--seed", "5")
    done = call_main(capsys, *arguments, "--out", tmp_path / "a.trace", "--json")
    document = json.loads(done.stdout)
    assert document["complete"] is True
    assert document["trace"] == str(tmp_path / "a.trace")
    assert len(document["token_ids"][0]) == 3
    quiet = call_main(capsys, *arguments, "--out", tmp_path / "b.trace", "--quiet")
    assert quiet.stdout.splitlines() == document["texts"]
    with open_trace(tmp_path / "a.trace") as a, open_trace(tmp_path / "b.trace") as b:
        assert a.end is not None
        assert b.end is not None
        assert a.end.sequences == b.end.sequences


def test_width_and_colour(walkthrough: Printed) -> None:
    for width in (80, 120):
        shown = trace_generate("show", walkthrough.out, variables={"COLUMNS": str(width)})
        assert shown.returncode == 0, shown.stderr
        assert max(map(len, shown.stdout.splitlines())) <= width
        assert "\x1b" not in shown.stdout


def test_ctrl_c_keeps_a_partial_trace(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.trace"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tracer", "--model", str(checkpoint), "--prompt", "w10"),
            *("--max-new-tokens", "8000", "--gen", "eos_token_id=null", "--out", str(out), *EAGER),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and _steps(out) < 20:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.strip() == "trace-generate: interrupted"
    assert "interrupted" in stdout
    with open_trace(out) as recording:
        assert recording.end is not None
        assert recording.end.status == "interrupted"
        assert len(recording.steps) == recording.end.steps >= 20


def _steps(path: Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as connection:
            return int(connection.execute("SELECT count(*) FROM step").fetchone()[0])
    except sqlite3.Error:
        return 0


@pytest.mark.slow
def test_output_into_a_closed_pipe_ends_quietly(walkthrough: Printed) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "tracer", "show", str(walkthrough.out), "--steps", "all"],
        env=environment(),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""


def test_a_reader_that_goes_away_costs_the_print_only(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.trace"
    arguments = ["--model", str(checkpoint), "--prompt", "w10", "--max-new-tokens", "12", "--out", str(out)]
    command = [
        sys.executable,
        "-m",
        "tracer",
        *arguments,
        "--steps",
        "all",
        "--gen",
        "eos_token_id=999",
        *EAGER,
    ]
    with PreparedProcess(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        said = running.stderr.read()
    assert (running.returncode, said) == (0, "")
    with open_trace(out) as recording:
        assert recording.complete
        assert len(recording.steps) == 12
