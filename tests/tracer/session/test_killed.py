"""A generation that is killed: what was over a second before is in its trace, and the file is whole."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

import pytest

from tests.support.breadth import slow
from tests.support.command import environment
from tests.support.prepared import PreparedProcess
from tracer import open_trace
from tracer.tracefile import check_file

PROMISED = 1.0
"""Seconds after which a step is written, as the manual says."""

LATE = 1.5
"""Seconds more to write it, on a machine that runs other tests."""

RUNS = [("tensors", 0), *slow(*[("stats", seed) for seed in range(1, 11)])]


class Said(NamedTuple):
    """What a generation said at the end of a step.

    Attributes:
        number: of the step.
        moment: in seconds of the monotonic clock; the step before was over.
        token: that was chosen.
    """

    number: int
    moment: float
    token: int


def killed(path: Path, capture: str, seconds: float) -> tuple[list[Said], float]:
    """What a generation said before it was killed, and when that was."""
    command = [sys.executable, "-m", "tests.tracer.session.endless_generation", str(path), capture]
    with PreparedProcess(command, env=environment(), stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        moment = time.monotonic()
        lines = (first + process.stdout.read()).split("\n")[:-1]
    said = [line.split() for line in lines]
    return [Said(int(number), float(at), int(token)) for number, at, token in said], moment


@pytest.mark.parametrize(("capture", "seed"), RUNS)
def test_kill_9_costs_the_steps_of_the_last_second_at_most(capture: str, seed: int, tmp_path: Path) -> None:
    seconds = PROMISED + LATE + random.Random(seed).uniform(0.2, 1.2)
    said, moment = killed(tmp_path / "run.trace", capture, seconds)
    due = [each.number - 1 for each in said if each.moment < moment - PROMISED - LATE][-1]
    with open_trace(tmp_path / "run.trace") as recording:
        (run,) = recording.runs
        found = [step.number for step in run.steps]
        assert not recording.complete
        assert found == [*range(1, len(found) + 1)]
        assert len(found) >= due > 10
        tokens = [choice.token for step in run.steps if (choice := step.choice())]
    # One more step may have come to its end than the generation could say.
    assert tokens[: len(said)] == [each.token for each in said[: len(found)]]
    report = check_file(tmp_path / "run.trace")
    assert report.ok, report.problems
    assert [each.name for each in tmp_path.iterdir()] == ["run.trace"]
