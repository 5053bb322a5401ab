"""What an open recording answers: the same as the commands, on its runs and those of another file."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import GREEDY, SAMPLING, batch, generate, tiny_model
from tests.tracer.tracefile.samples import write_trace
from tracer import Recording, open_trace, trace
from tracer.errors import TraceFileError, UsageError
from tracer.tracefile import TraceWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reading")
    model = tiny_model()
    with trace(model, tiny_tokenizer(), folder / "two.trace", capture="tensors", save=["logits"]):
        for seed in (1, 2):
            generate(model, batch(2), seed=seed, max_new_tokens=5, **SAMPLING)
    with trace(model, tiny_tokenizer(), folder / "greedy.trace"):
        generate(model, batch(2), max_new_tokens=5, **GREEDY)
    return folder


@pytest.fixture
def recording(folder: Path) -> Iterator[Recording]:
    with open_trace(folder / "two.trace") as opened:
        yield opened


def test_why(recording: Recording) -> None:
    choice = recording.steps[1].choice(1)
    assert choice is not None
    report = recording.why(2, row=1)
    assert (report.verdict, report.token, report.source) == ("chosen", choice.token, "saved logits")
    assert recording.why(2, f"w{choice.token}", row=1).token == choice.token
    assert recording.why(2, 5, use_torch=False).token == 5
    second = recording.runs[1].steps[0].choice()
    assert second is not None
    assert recording.why(1, run=2).chosen == second.token


def test_whatif(recording: Recording) -> None:
    same = recording.whatif(temperature=SAMPLING["temperature"])
    assert same.first_step is None
    assert all(step.reproduced for step in same.steps)
    greedy = recording.whatif(greedy=True, run=2)
    first = [step for step in greedy.steps if step.step == 1]
    assert [step.token for step in first] == [
        int(recording.run(2).tensor(1, "logits")[row].argmax()) for row in (0, 1)
    ]
    untold = recording.whatif(temperature=9.0, use_torch=False)
    assert untold.steps[0].token is None


def test_diff(recording: Recording, folder: Path) -> None:
    assert recording.diff(recording).reason == "identical"
    assert recording.diff(recording, other_run=2).reason == "draw"
    with open_trace(folder / "greedy.trace") as greedy:
        assert greedy.diff(recording, other_run=2).reason == "settings"


def test_what_makes_no_sense_is_refused(recording: Recording, tmp_path: Path) -> None:
    for ask, words in (
        (lambda: recording.why(99), "step 99 was not recorded"),
        (lambda: recording.why(1, "w"), "the recording mentions no token"),
        (lambda: recording.why(1, 100), "outside the vocabulary"),
        (lambda: recording.why(1, row=2), "row 2 does not exist"),
        (lambda: recording.why(1, run=3), "no run 3"),
        (lambda: recording.whatif(heat=1), "unknown setting heat; choose from temperature, top_k"),
        (lambda: recording.whatif(top_k=2.5), "must be a whole number"),
        (lambda: recording.whatif(top_k=float("inf")), "must be a whole number"),
        (lambda: recording.whatif(temperature=0), "above 0"),
        (lambda: recording.diff(recording, other_run=9), "no run 9"),
        (lambda: recording.diff(recording, tolerance=-1), "at least 0"),
    ):
        with pytest.raises(UsageError, match=words):
            ask()
    TraceWriter(tmp_path / "empty.trace").close()
    with open_trace(tmp_path / "empty.trace") as empty, pytest.raises(TraceFileError, match="holds no run"):
        recording.diff(empty)


def test_a_recording_crosses_to_another_process(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", 2)
    with open_trace(tmp_path / "run.trace") as recording:
        again = pickle.loads(pickle.dumps(recording))
        assert isinstance(again, type(recording))
        assert again.header == recording.header
        again.close()
        assert len(recording.steps) == 2
