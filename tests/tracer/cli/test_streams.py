"""Closed streams, full devices, pipes and terminals: one line, and nothing that acts on a terminal."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import EAGER, call_main, environment
from tests.support.prepared import PreparedProcess
from tests.tracer.tracefile.samples import write_trace
from tracer import open_trace

COMMAND = [sys.executable, "-m", "tracer"]
HOSTILE = "a\x1b[31mb\u202ec\x9bd"
SHOWN = "a\\x1b[31mb\\u202ec\\x9bd"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    write_trace(tmp_path / "run.trace", 2)
    return tmp_path / "run.trace"


def shell(redirection: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *COMMAND, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_closed_streams(recorded: Path) -> None:
    closed = shell(">&-", "info", recorded)
    assert (closed.returncode, closed.stderr.count("\n")) == (5, 1)
    assert "standard output is closed" in closed.stderr
    halted = shell("<&-", "--prompt", "w10", "--model", recorded.parent, "--step")
    assert (halted.returncode, halted.stderr.count("\n")) == (2, 1)
    assert "standard input, which is closed" in halted.stderr
    unheard = shell("2>&-", "info", recorded)
    assert unheard.returncode == 0
    assert "run.trace" in unheard.stdout


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device of the tests' own that is always full."""
    node = tmp_path_factory.mktemp("device") / "full"
    try:
        os.mknod(node, 0o020666, os.makedev(1, 7))
        with node.open("w"):
            pass
    except OSError:
        pytest.skip("no device can be made here")
    return node


@pytest.mark.parametrize("arguments", [["info"], ["show"], ["export", "--format", "csv", "-o", "-"]])
def test_a_full_device(arguments: list[str], recorded: Path, full: Path) -> None:
    done = shell(f">{full}", *arguments[:1], recorded, *arguments[1:])
    assert done.returncode == 5
    assert done.stderr == "trace-generate: cannot write to standard output: No space left on device\n"


def test_a_full_device_costs_a_run_its_print_only(checkpoint: Path, tmp_path: Path, full: Path) -> None:
    out = tmp_path / "run.trace"
    run = ("--model", checkpoint, "--prompt", "w10", "--max-new-tokens", "3", "--out", out, *EAGER)
    with (
        full.open("w") as device,
        PreparedProcess(
            [*COMMAND, *map(str, run)], env=environment(), stdout=device, stderr=PIPE, text=True
        ) as process,
    ):
        _, stderr = process.communicate(timeout=90)
    assert process.returncode == 5
    assert "No space left on device" in stderr
    assert stderr.count("\n") == 1
    with open_trace(out) as recording:
        assert recording.complete


def test_names_that_are_no_text(recorded: Path) -> None:
    page = recorded.parent / os.fsdecode(b"\xff.html")
    done = subprocess.run(
        [*COMMAND, "report", recorded, "-o", page], env=environment(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, os.fsencode(page) + b"\n")
    again = subprocess.run(
        [*COMMAND, "report", recorded, "-o", page], env=environment(), capture_output=True, check=False
    )
    assert again.returncode == 5
    assert b"\\udcff.html exists already" in again.stderr


def test_characters_that_the_output_lacks(recorded: Path) -> None:
    page = recorded.parent / "é.html"
    done = subprocess.run(
        [*COMMAND, "report", recorded, "-o", page],
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert page.exists()


def test_reports_and_exports_into_pipes(recorded: Path) -> None:
    commands: list[list[str | Path]] = [
        ["report", recorded, "-o"],
        ["export", recorded, "--format", "jsonl", "-o"],
    ]
    for arguments in commands:
        done = shell("| cat", *arguments, "/dev/stdout")
        assert done.stderr == ""
        assert done.stdout.startswith(("<!doctype html>", '{"kind"'))
        assert "/dev/stdout" not in done.stdout.splitlines()[-1]
        pipe = recorded.parent / "pipe"
        os.mkfifo(pipe)
        with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
            written = shell("", *arguments, pipe, "--force")
            assert written.returncode == 0, written.stderr
            assert reader.communicate(timeout=60)[0] == done.stdout
        assert pipe.is_fifo()
        pipe.unlink()


@contextmanager
def on_terminal(
    *arguments: str | Path, start: type[subprocess.Popen[Any]] = subprocess.Popen
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command on a terminal of its own."""
    ours, its = os.openpty()
    with start(
        [*COMMAND, *map(str, arguments)],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(TERM="xterm"),
        start_new_session=True,
    ) as process:
        os.close(its)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def read_all(
    process: subprocess.Popen[bytes], terminal: int, until: bytes = b"\0", seconds: float = 90
) -> bytes:
    """What appears on a terminal, until something is seen or the process has ended."""
    seen, deadline = b"", time.monotonic() + seconds
    while until not in seen and time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        if not ready and process.poll() is not None:
            break
        try:
            seen += os.read(terminal, 65536) if ready else b""
        except OSError:  # its end was closed
            break
    return seen


def test_a_terminal_says_at_once_that_the_command_is_starting(checkpoint: Path, tmp_path: Path) -> None:
    with on_terminal("--model", checkpoint, "--prompt", "w10", "--out", tmp_path / "run.trace") as (
        process,
        ours,
    ):
        assert b"starting" in read_all(process, ours, b"starting", 30)
    with on_terminal("--prompt", " ") as (process, ours):
        # The line of an error is alone.
        assert read_all(process, ours).endswith(b"\r\x1b[Ktrace-generate: The prompt is empty.\r\n")
    with on_terminal("--help") as (process, ours):
        assert b"starting" not in read_all(process, ours)


def test_names_and_errors_do_nothing_to_a_terminal(recorded: Path) -> None:
    page = recorded.parent / f"{HOSTILE}.html"
    for _ in range(2):  # written, then refused
        with on_terminal("report", recorded, "-o", page) as (process, ours):
            seen = read_all(process, ours).decode()
        assert f"{SHOWN}.html" in seen
        assert not {"\x1b", "\u202e", "\x9b"} & {*seen}
    piped = shell("", "report", recorded, "-o", page, "--force")
    assert piped.stdout == f"{page}\n"


def test_answers_do_nothing_to_a_terminal_and_pipes_get_the_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny")
    # Every word of the vocabulary is a hostile one.
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    kept = ("<", "w5", "system", "user", "assistant")
    renamed = {word if word.startswith(kept) else f"{word}{HOSTILE}": index for word, index in words.items()}
    tokenizer["model"]["vocab"] = renamed
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    length = ("--max-new-tokens", "3", "--greedy", "--no-html", "--force")
    run = ("--model", folder, "--prompt", "w5", *length, *EAGER)
    out = tmp_path / "run.trace"
    for how in ("--quiet", "--json"):
        piped = call_main(capsys, *run, "--out", out, how)
        assert piped.returncode == 0, piped.stderr
        with on_terminal(*run, "--out", out, how, start=PreparedProcess) as (process, ours):
            seen = read_all(process, ours).decode()
        assert not {"\x1b", "\u202e", "\x9b"} & {*seen}
        if how == "--quiet":
            assert HOSTILE in piped.stdout
            assert SHOWN in seen
        else:
            assert json.loads(seen)["texts"] == json.loads(piped.stdout)["texts"]


def test_a_hostile_checkpoint_does_nothing_to_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    cases: list[tuple[dict[str, object], dict[str, object]]] = [
        ({**config, "architectures": [HOSTILE]}, settings),
        ({**config, "model_type": HOSTILE}, settings),
        ({**config, "torch_dtype": HOSTILE}, settings),
        (config, {**settings, "chat_template": "{{ raise_exception('" + HOSTILE + "') }}"}),
    ]
    for changed, tokenizer in cases:
        (folder / "config.json").write_text(json.dumps(changed))
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        done = call_main(capsys, "--model", folder, "--prompt", "w10", "--out", tmp_path / "run.trace")
        assert done.returncode in (2, 3, 4), done.stderr
        assert done.stderr.count("\n") == 1
        assert not {"\x1b", "\u202e", "\x9b"} & {*done.stderr}
        assert "\\x1b[31m" in done.stderr
