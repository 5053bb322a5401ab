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
from tracer.tracefile import check_file

SETTINGS: dict[str, Any] = {"max_new_tokens": 3, "pad_token_id": 0, "do_sample": False}


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
