"""Every run that has a header gets its end record, whatever fails before its first step."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from hooks.loop import generation_watch
from hooks.loop.run_capture import RunCapture
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.schema.run import RunStatus
from tracer.tracefile import Recorder, check_file

SETTINGS: dict[str, Any] = {"max_new_tokens": 3, "pad_token_id": 0, "do_sample": False}


PERIOD = (69, 5, 8, 77, 2, 60, 43, 52, 65)
"""What a tiny model without its layers goes round in."""


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("cannot be watched")


@pytest.mark.parametrize("part", ["RunCapture", "watch_processors", "watch_criteria", "TracedRun"])
def test_a_run_that_cannot_be_watched_ends_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    model, inputs = tiny_model(), batch(2)
    expected = model.generate(**inputs, **SETTINGS)
    monkeypatch.setattr(generation_watch, part, broken)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with trace(model, path=tmp_path / "run.trace") as session:
            output = model.generate(**inputs, **SETTINGS)
    assert torch.equal(output, expected)
    assert any("cannot be watched" in fault for fault in session.faults)
    with open_trace(tmp_path / "run.trace") as recording:
        end = recording.end
        assert end is not None
        assert end.status is RunStatus.FAILED
        assert end.error == "the run could not be watched: RuntimeError: cannot be watched"
        assert len(recording.steps) == 0
        assert end.sequences == tuple(map(tuple, inputs["input_ids"].tolist()))


@pytest.mark.parametrize(
    ("raised", "status"),
    [(TimeoutError("late"), RunStatus.FAILED), (KeyboardInterrupt(), RunStatus.INTERRUPTED)],
)
def test_what_the_program_raises_there_goes_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, status: RunStatus
) -> None:
    def raising(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(generation_watch, "watch_criteria", raising)
    monkeypatch.setattr(generation_watch, "is_ours", lambda _: False)
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace"), pytest.raises(type(raised)):
        model.generate(**batch(1), **SETTINGS)
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.end is not None
        assert recording.end.status is status


def test_a_fault_in_the_last_step_leaves_the_end_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunCapture, "stop", broken)
    model = tiny_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with trace(model, path=tmp_path / "run.trace") as session:
            model.generate(**batch(1), **SETTINGS)
    assert any("cannot be watched" in fault for fault in session.faults)
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.complete


@pytest.mark.parametrize("at", [1, 3])
def test_an_interrupt_while_a_step_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """A signal may come between the end of a step and the queue: the record counts what is in the file."""
    put, calls = Recorder.put, 0

    def interrupted(recorder: Recorder, job: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        put(recorder, job)

    monkeypatch.setattr(Recorder, "put", interrupted)
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace"), pytest.raises(KeyboardInterrupt):
        model.generate(**batch(2), **{**SETTINGS, "max_new_tokens": 6})
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.end is not None
        assert recording.end.status is RunStatus.INTERRUPTED
        assert recording.end.steps == len(recording.steps) == at - 1
    assert check_file(tmp_path / "run.trace").whole


def test_an_interrupt_behind_several_tokens(tmp_path: Path) -> None:
    """A step of assisted decoding that is cut short may have appended more than one."""

    def interrupting(input_ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        if input_ids.shape[1] == len(PERIOD) + 10:
            raise KeyboardInterrupt
        return torch.zeros(len(input_ids), dtype=torch.bool)

    model = tiny_model()
    settings = {"prompt_lookup_num_tokens": 4, "max_new_tokens": 20, "pad_token_id": 0, "do_sample": False}
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()  # a token alone says which is next: this model has a period
    with trace(model, path=tmp_path / "run.trace"), pytest.raises(KeyboardInterrupt):
        model.generate(torch.tensor([[*PERIOD, *PERIOD[:2]]]), **settings, stopping_criteria=[interrupting])
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.end is not None
        assert [len(step.appended()) for step in recording.steps] == [5]
        assert len(recording.end.sequences[0]) == len(PERIOD) + 10
    assert check_file(tmp_path / "run.trace").runs[0].gaps == ()


def test_a_run_whose_steps_were_not_seen_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody replaced the model's methods for the time of the call."""
    model, inputs = tiny_model(), batch(1)
    prepare = type(model).prepare_inputs_for_generation
    begin = generation_watch.GenerationWatch.begin_run

    def replacing(watch: Any, *arguments: Any) -> Any:
        run = begin(watch, *arguments)
        monkeypatch.setattr(RunCapture, "on_prepared", lambda *_: None)
        return run

    monkeypatch.setattr(generation_watch.GenerationWatch, "begin_run", replacing)
    with trace(model, path=tmp_path / "run.trace"):
        output = model.generate(**inputs, **SETTINGS)
    assert type(model).prepare_inputs_for_generation is prepare
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.end is not None
        assert recording.end.sequences == tuple(map(tuple, output.tolist()))
    assert check_file(tmp_path / "run.trace").runs[0].gaps == ("0 steps for 3 generated tokens",)
