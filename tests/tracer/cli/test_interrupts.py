"""Ctrl-C in any phase: exit code 130, one line, and what was recorded is kept."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import EAGER, environment
from tests.support.prepared import PreparedProcess
from tracer import open_trace
from tracer.interrupts import Interrupts

SCRIPT = Path(__file__).with_name("interrupting.py")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


def interrupted(place: str, how: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), place, how, *map(str, arguments)]
    with PreparedProcess(command, env=environment(), stdout=PIPE, stderr=PIPE, text=True) as process:
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("tracer.loading.prompts:check_prompts", marks=pytest.mark.slow),
        pytest.param("tracer.running.generation:load_model", marks=pytest.mark.slow),
        "tracer.running.generation:prepare_inputs",
    ],
)
def test_before_the_first_step(place: str, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.trace"
    done = interrupted(place, "raised", "--model", checkpoint, "--prompt", "w10", "--out", out)
    assert done.returncode == 130
    assert done.stderr.strip() == "trace-generate: interrupted"
    assert not out.exists()


def test_one_that_a_library_swallows_ends_the_run_after_a_step(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.trace"
    run = ("--model", checkpoint, "--prompt", "w10", "--out", out, *EAGER)
    done = interrupted("tracer.running.generation:prepare_inputs", "swallowed", *run)
    assert done.returncode == 130
    assert done.stderr.strip() == "trace-generate: interrupted"
    with open_trace(out) as recording:
        assert recording.end is not None
        assert recording.end.status == "interrupted"
        assert len(recording.steps) == 1


def test_an_interrupt_is_remembered_until_somebody_acts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_of_the_program_stays_in_place() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
