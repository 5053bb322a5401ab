"""A generation that fails in the middle of a step: the step is recorded as far as it went."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationMixin, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList

from hooks.scores import stages
from tests.support.command import run_light
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.reading import Recording
from tracer.replay.ending import ending
from tracer.tracefile import check_file

SETTINGS: dict[str, Any] = {"max_new_tokens": 5, "eos_token_id": None}
EVERYTHING = ["logits", "kv", "hidden", "attention", "lens"]


class Broken(Exception):  # noqa: N818 - the program's own
    """What the program raises."""


class _Breaks:
    """Raises at its third call, as a processor, a criterion, a streamer or a hook."""

    def __init__(self, at: int = 3) -> None:
        self.left = at

    def __call__(self, *args: Any, **_: Any) -> Any:
        self._count()
        return args[1]

    def put(self, _: Any) -> None:
        self._count()

    def end(self) -> None:
        """Nothing more comes."""

    def _count(self) -> None:
        self.left -= 1
        if not self.left:
            raise Broken("not this one")


class _Criterion(_Breaks):
    def __call__(self, *args: Any, **_: Any) -> Any:
        self._count()
        return torch.zeros(len(args[0]), dtype=torch.bool, device=args[0].device)


def _processor(_: PreTrainedModel) -> dict[str, Any]:
    return {"logits_processor": LogitsProcessorList([_Breaks()])}


def _criterion(_: PreTrainedModel) -> dict[str, Any]:
    return {"stopping_criteria": StoppingCriteriaList([_Criterion()])}


def _streamer(_: PreTrainedModel) -> dict[str, Any]:
    return {"streamer": _Breaks(at=4)}  # it is given the prompt first


def _hook(model: PreTrainedModel) -> dict[str, Any]:
    breaks = _Breaks()
    model.model.layers[1].mlp.register_forward_pre_hook(lambda module, given: breaks(module, given))
    return {}


STREAMED_IN_LOOP = "put" in inspect.unwrap(GenerationMixin._sample).__code__.co_names
"""Whether the loop itself hands tokens to a streamer, behind the append; else what asks for the end does."""

FAILING: dict[str, tuple[Callable[[PreTrainedModel], dict[str, Any]], str, str | None]] = {
    "processor": (_processor, "processors", None),
    "criterion": (_criterion, "stopping", None),
    **({"streamer": (_streamer, "append", None)} if STREAMED_IN_LOOP else {}),
    "forward": (_hook, "layers", "model.layers.1.mlp"),
}


def failing(path: Path, model: PreTrainedModel, error: type[Exception], **more: Any) -> Recording:
    inputs = {name: tensor[:1] for name, tensor in batch().items()}
    level = more.pop("level", "stats")
    save = EVERYTHING if level == "tensors" else []
    with pytest.raises(error) as caught, trace(model, path=path, capture=level, save=save):
        model.generate(**inputs, **SETTINGS, **more)
    assert not hasattr(caught.value, "__notes__")
    assert check_file(path).ok
    return open_trace(path)


def shown_by_command(path: Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", "tracer", "show", str(path)], capture_output=True, text=True, check=False
    ).stdout


@pytest.mark.parametrize("level", ["shapes", "stats", "tensors"])
@pytest.mark.parametrize("what", FAILING)
def test_the_step_is_recorded_as_far_as_it_went(tmp_path: Path, what: str, level: str) -> None:
    prepare, stop, module = FAILING[what]
    model = tiny_model()
    recording = failing(
        tmp_path / "t", model, Broken, do_sample=False, renormalize_logits=True, level=level, **prepare(model)
    )
    run = recording.runs[0]
    *whole, last = run.steps
    assert [step.number for step in (*whole, last)] == [1, 2, 3]
    assert all(step.head.failure is None for step in whole)
    failure = last.head.failure
    assert failure is not None
    assert (failure.stop, failure.message) == (stop, "Broken: not this one")
    assert module == (None if failure.module is None else run.header.modules[failure.module].name)
    assert (last.head.forward is None) == (stop == "layers")
    assert (last.scores is None) == (stop == "layers")
    assert (last.choice() is None) == (stop != "stopping")
    assert last.head.errors == ()
    assert recording.end is not None
    assert (recording.end.status, recording.end.steps) == ("failed", 3)


@pytest.mark.skipif(STREAMED_IN_LOOP, reason="this release streams before the last stop of a step")
@pytest.mark.parametrize("level", ["shapes", "stats", "tensors"])
def test_a_streamer_that_fails_behind_the_last_stop(tmp_path: Path, level: str) -> None:
    model = tiny_model()
    recording = failing(tmp_path / "t", model, Broken, do_sample=False, level=level, **_streamer(model))
    run = recording.run()
    # The step was over: all of it is there, and nothing in it failed.
    assert [step.number for step in run.steps] == [1, 2, 3]
    chosen = [choice.token for step in run.steps if (choice := step.choice()) is not None]
    assert all(step.head.failure is None for step in run.steps)
    assert run.end is not None
    assert (run.end.status, run.end.steps, run.end.error) == ("failed", 3, "Broken: not this one")
    assert list(run.end.sequences[0][-3:]) == chosen
    assert ending(run) == "The run failed after step 3: Broken: not this one"
    shown = shown_by_command(recording.path)
    assert "Broken: not this one" in shown
    assert "Not reached" not in shown


def test_other_ends_leave_no_failed_step(tmp_path: Path) -> None:
    class Interrupting(_Breaks):
        def _count(self) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    model = tiny_model()
    with pytest.raises(KeyboardInterrupt), trace(model, path=tmp_path / "t"):
        model.generate(**batch(), **SETTINGS, logits_processor=LogitsProcessorList([Interrupting()]))
    with open_trace(tmp_path / "t") as recording:
        assert [step.head.failure for step in recording.steps] == [None, None]


@pytest.mark.parametrize("more", [{}, {"top_k": 5, "temperature": 0.5}, {"top_p": 0.5}])
def test_a_draw_from_nan_names_where_it_began(tmp_path: Path, more: dict[str, Any]) -> None:
    model = tiny_model()
    model.model.layers[1].mlp.up_proj.weight.data[3, 7] = torch.nan
    recording = failing(tmp_path / "t", model, RuntimeError, do_sample=True, **more)
    (step,) = recording.runs[0].steps
    assert step.head.failure is not None
    assert step.head.failure.stop in ("warpers", "choice")
    found = [recording.header.modules[each.module or 0].name for each in step.head.violations]
    assert found == ["model.layers.1.mlp.up_proj"]
    shown = shown_by_command(recording.path)
    assert f"failed here: {step.head.failure.message[:40]}" in shown
    assert "Not reached: the run failed at" in shown
    assert shown.count("Not reached") == len(recording.header.stops) - 1 - recording.header.number(
        step.head.failure.stop
    )


def test_questions_about_a_failed_step_are_answered_or_refused_in_one_line(tmp_path: Path) -> None:
    model = tiny_model()
    path = failing(tmp_path / "t", model, Broken, do_sample=False, **_processor(model)).path
    other = failing(tmp_path / "u", tiny_model(), Broken, do_sample=False, **_streamer(model)).path
    questions: list[list[str | Path]] = [
        ["why", path, "--step", "3"],
        ["whatif", path, "--temperature", "2"],
        ["info", path],
        ["verify", path],
        ["diff", path, other],
        ["export", path, "--table", "choices", "-o", "-"],
        ["report", path, "-o", tmp_path / "page.html"],
    ]
    for arguments, done in zip(questions, run_light(questions), strict=True):
        assert done.code != 10, (arguments, done.complaint)
        assert "Traceback" not in done.complaint, arguments


def test_what_was_not_measured_is_never_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, poison = torch.empty, 3.46e21

    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        made = real(*args, **kwargs)
        return made.fill_(poison if made.is_floating_point() else 77)

    class Refusing(stages.ScoreStages):
        def put(self, stage: int, scores: torch.Tensor) -> None:
            if stage == 0:
                raise NotImplementedError("this kind of tensor cannot be copied")
            super().put(stage, scores)

    monkeypatch.setattr(torch, "empty", poisoned)
    monkeypatch.setattr("hooks.loop.run_capture.ScoreStages", Refusing)
    model = tiny_model()
    with trace(model, path=tmp_path / "t"):
        model.generate(**batch(), **SETTINGS, do_sample=True, top_k=3)
    with open_trace(tmp_path / "t") as recording:
        for step in recording.steps:
            assert step.scores is None
            assert [error.stop for error in step.head.errors] == ["processors"]
