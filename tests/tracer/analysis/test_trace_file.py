"""The analyses on trace files, as users have them; without torch where records suffice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks.scores.replay import TorchReplayer
from tests.support.models import SAMPLING, batch, generate, tiny_model
from tracer.analysis.diff import diff
from tracer.analysis.draw import DrawStates, Replayer, near_misses
from tracer.analysis.processors.settings import Settings
from tracer.analysis.runs import RecordedRun, history_of, step_of
from tracer.analysis.whatif import whatif
from tracer.analysis.why import why_in_run
from tracer.errors import UsageError
from tracer.session import trace
from tracer.tracefile import TraceFile

STEPS = 80


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("analysis") / "run.trace"
    model = tiny_model()
    with trace(model, path=file, capture="tensors", save=["logits", "hidden"]):
        generate(model, batch(2, 5), seed=4, max_new_tokens=STEPS, eos_token_id=[], **SAMPLING)
        generate(model, batch(2, 5), seed=5, max_new_tokens=STEPS, eos_token_id=[], **SAMPLING)
    return file


@pytest.fixture
def recording(path: Path) -> Iterator[TraceFile]:
    with TraceFile(path) as opened:
        yield opened


def test_everything_on_an_open_trace(recording: TraceFile) -> None:
    run: RecordedRun = recording.runs[0]
    replayer: Replayer = TorchReplayer()
    states = DrawStates(run, replayer)
    for number in (1, 63, 64, 65, STEPS):
        found = near_misses(run, number, replayer, row=1, states=states)
        assert found.reproduced
        assert why_in_run(run, number, found.chosen, 1, replayer=replayer).verdict == "chosen"
    same = whatif(run, Settings(), replayer=replayer)
    assert same.exact
    assert same.first_step is None
    assert all(first.certain for first in same.first)
    assert all(step.reproduced for step in same.steps)


def test_two_runs_of_one_file(recording: TraceFile) -> None:
    first, second = recording.runs
    assert diff(first, first).same
    report = diff(first, second)
    assert report.reason == "draw"
    assert report.first is None


def test_history_with_and_without_an_end_record(recording: TraceFile) -> None:
    run = recording.runs[0]
    assert run.end is not None
    whole = history_of(run, 9, 1)
    assert whole.tolist() == list(run.end.sequences[1][:13])
    chosen = [step_of(run, number).scores.chosen[1] for number in range(1, 9)]  # type: ignore[union-attr]
    assert whole.tolist() == [*run.header.prompt[1].token_ids, *chosen]
    with pytest.raises(UsageError, match="last recorded step is 80"):
        step_of(run, STEPS + 1)


PROGRAM = """
import sys
from tracer.analysis.diff import diff
from tracer.analysis.processors.settings import Settings
from tracer.analysis.token_search import find_tokens
from tracer.analysis.whatif import whatif
from tracer.analysis.why import why_in_run
from tracer.tracefile import TraceFile

with TraceFile(sys.argv[1]) as recording:
    first, second = recording.runs
    assert not diff(first, second).same
    assert why_in_run(first, 3, 7, 1).stages
    assert whatif(first, Settings(greedy=True)).exact
    find_tokens("7", first.tokens)
print(sorted({"torch", "transformers", "hooks"} & {name.partition(".")[0] for name in sys.modules}))
"""


def test_without_torch(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
