"""SIGTERM and SIGHUP end a command as Ctrl-C does, at any moment, with codes of their own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import EAGER, environment
from tests.support.prepared import PreparedProcess
from tests.tracer.cli.test_run import _steps
from tests.tracer.cli.test_streams import COMMAND, on_terminal, read_all
from tracer import open_trace
from tracer.interrupts import Interrupts, Stopped

ENDINGS = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGTERM: (143, "terminated"),
    signal.SIGHUP: (129, "the terminal was closed"),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


def arguments(checkpoint: Path, out: Path) -> list[str]:
    long = ("--max-new-tokens", "8000", "--gen", "eos_token_id=null", "--steps", "none")
    return ["--model", str(checkpoint), "--prompt", "w10", *long, "--out", str(out), *EAGER]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_run_is_closed_as_interrupted(number: signal.Signals, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.trace"
    code, word = ENDINGS[number]
    with PreparedProcess(
        [*COMMAND, *arguments(checkpoint, out)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and _steps(out) < 10:
            time.sleep(0.05)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr.strip()) == (code, f"trace-generate: {word}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.trace"]
    with open_trace(out) as recording:
        assert recording.end is not None
        assert recording.end.status == "interrupted"
        assert len(recording.steps) == recording.end.steps >= 10


@pytest.mark.slow
def test_the_terminal_of_the_stepper_is_put_back(checkpoint: Path, tmp_path: Path) -> None:
    number = signal.SIGTERM
    with on_terminal(*arguments(checkpoint, tmp_path / "run.trace"), "--step") as (process, ours):
        before = termios.tcgetattr(ours)
        read_all(process, ours, b"model-call 1")
        deadline = time.monotonic() + 30
        while termios.tcgetattr(ours)[3] == before[3] and time.monotonic() < deadline:
            read_all(process, ours, seconds=0.2)
        assert termios.tcgetattr(ours)[3] != before[3]
        process.send_signal(number)
        seen = read_all(process, ours)
        assert process.wait(60) == ENDINGS[number][0]
        assert termios.tcgetattr(ours)[3] == before[3]
        assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l")


@pytest.mark.slow
def test_a_terminal_that_goes_away(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.trace"
    ours, its = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", LEADER, *arguments(checkpoint, out)],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment(TERM="xterm", PYTHONPATH=os.pathsep.join(sys.path)),
        start_new_session=True,
    ) as process:
        os.close(its)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and _steps(out) < 5:
            read_all(process, ours, seconds=0.1)
        os.close(ours)
        assert process.wait(60) == 129
    with open_trace(out) as recording:
        assert recording.end is not None
        assert recording.end.status == "interrupted"


LEADER = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from tracer.cli.main import main
main()
"""


def start_and_stop(number: signal.Signals, delay: float) -> tuple[int, str]:
    with subprocess.Popen(
        [*COMMAND, "--prompt", "w10", "--model", "./none"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(delay)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert stdout == ""
    return process.returncode, stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", ENDINGS)
def test_the_first_moments(number: signal.Signals) -> None:
    code, word = ENDINGS[number]
    rng = random.Random(number)
    for _ in range(40):
        ended, said = start_and_stop(number, rng.uniform(0.1, 0.4))
        if "no such folder" in said:
            # The model was refused before the signal came, which may find Python without its handlers.
            assert ended in (3, code, -number)
            continue
        if "trace-generate: " not in said:  # Python itself was starting, and ours was not in place
            assert "interrupts.py" not in said
            continue
        assert (ended, said.strip()) == (code, f"trace-generate: {word}")


def test_what_a_signal_is(capfd: pytest.CaptureFixture[str]) -> None:
    before = {number: signal.getsignal(number) for number in ENDINGS}
    with Interrupts() as interrupts:
        for number, (code, word) in ENDINGS.items():
            with pytest.raises(Stopped, match=word) as stopped:
                signal.raise_signal(number)
            assert stopped.value.exit_code == code
            assert interrupts.last is stopped.value
    assert {number: signal.getsignal(number) for number in ENDINGS} == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_at_once_in_the_middle_of_imports() -> None:
    code = (
        "import os, signal, sys\n"
        "from tracer.interrupts import Interrupts\n"
        "with Interrupts(at_once=True):\n"
        "    try: os.kill(os.getpid(), int(sys.argv[1])); [None for _ in range(1000)]\n"
        "    except BaseException: pass\n"
    )
    for number, (code_of, word) in ENDINGS.items():
        done = subprocess.run(
            [sys.executable, "-c", code, str(int(number))],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (code_of, f"trace-generate: {word}\n")


IMPORTING = """
import os, signal, sys
from tracer.interrupts import Interrupts
with Interrupts() as interrupts:
    if sys.argv[2] == "begun":
        interrupts.begin()
    sys.path.insert(0, sys.argv[1])
    try:
        import ringing
    except BaseException as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize("begun", [False, True])
def test_a_signal_in_an_import(begun: bool, tmp_path: Path) -> None:
    (tmp_path / "ringing.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\n")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, tmp_path, "begun" if begun else "not"],
        env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        text=True,
        check=False,
    )
    outcome = (0, "Stopped\n", "") if begun else (143, "", "trace-generate: terminated\n")
    assert (done.returncode, done.stdout, done.stderr) == outcome
