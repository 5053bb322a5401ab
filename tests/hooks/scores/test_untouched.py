"""Scores that nothing writes into are recorded without copies; where that is not sure, copies are made."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList, StoppingCriteriaList, TopKLogitsWarper
from transformers.generation import logits_process

from hooks.loop.course import Course, TokenChange
from hooks.loop.generation_watch import GenerationWatch
from hooks.scores.stages import ScoreStages
from hooks.scores.untouched import READERS, scores_stay
from tests.hooks.scores.test_scores import InPlace, StopAfter
from tests.support.models import SAMPLING, CollectedRun, batch, collected, generate, tiny_model
from tracer import open_trace, trace
from tracer.schema.fork import ForkOrigin
from tracer.schema.run import CaptureSettings
from tracer.schema.step import Step
from tracer.tracefile.writing.committer import Committer

PROMPT = torch.tensor([[3, 4, 5, 3, 4], [7, 7, 1, 7, 7]])
TOKENS = 12

SETTINGS: dict[str, tuple[Any, ...]] = {
    "EncoderNoRepeatNGramLogitsProcessor": (2, PROMPT),
    "EncoderRepetitionPenaltyLogitsProcessor": (1.5, PROMPT),
    "EpsilonLogitsWarper": (0.05,),
    "EtaLogitsWarper": (0.05,),
    "ExponentialDecayLengthPenalty": ((1, 1.5), [2], 3),
    "ForcedBOSTokenLogitsProcessor": (2,),
    "ForcedEOSTokenLogitsProcessor": (6, [2]),
    "InfNanRemoveLogitsProcessor": (),
    "LogitNormalization": (),
    "MinLengthLogitsProcessor": (9, torch.tensor([2])),
    "MinNewTokensLengthLogitsProcessor": (5, 3, torch.tensor([2])),
    "MinPLogitsWarper": (0.2,),
    "NoBadWordsLogitsProcessor": ([[3], [7, 4]], [2]),
    "NoRepeatNGramLogitsProcessor": (2,),
    "PrefixConstrainedLogitsProcessor": (lambda row, _: [1, 2 + row], 1),
    "RepetitionPenaltyLogitsProcessor": (1.5,),
    "SequenceBiasLogitsProcessor": ({(3,): 2.0, (7, 4): -1.0},),
    "SuppressTokensAtBeginLogitsProcessor": ([3, 4], 5),
    "SuppressTokensLogitsProcessor": ([3, 4],),
    "TemperatureLogitsWarper": (0.7,),
    "TopHLogitsWarper": (0.5, 8),
    "TopKLogitsWarper": (4,),
    "TopPLogitsWarper": (0.6,),
    "TypicalLogitsWarper": (0.6,),
}
"""Arguments for each of them."""

rows = st.lists(st.floats(-20, 20, width=32), min_size=TOKENS, max_size=TOKENS)


def test_each_of_them_is_tried() -> None:
    assert SETTINGS.keys() == READERS


@pytest.mark.parametrize("name", [name for name in sorted(READERS) if hasattr(logits_process, name)])
@given(scores=st.lists(rows, min_size=2, max_size=2), removed=st.sets(st.integers(0, TOKENS - 1), max_size=6))
@settings(max_examples=20, deadline=None)
def test_the_library_only_reads(name: str, scores: list[list[float]], removed: set[int]) -> None:
    try:
        processor = getattr(logits_process, name)(*SETTINGS[name])
    except TypeError:  # newer releases have it built before its tokens are known
        processor = getattr(logits_process, name)(*SETTINGS[name], device="cpu")
    given = torch.tensor(scores)
    given[:, [*removed]] = -torch.inf
    before, version = given.clone(), given._version
    for length in (5, 6):  # the length of the sequences decides in some
        ids = torch.cat([PROMPT, PROMPT[:, :1]], dim=1)[:, :length]
        processor(ids, given)
    assert given._version == version
    assert torch.equal(given, before)


class Subclass(TopKLogitsWarper):  # type: ignore[misc]
    pass


class Overriding(TopKLogitsWarper):  # type: ignore[misc]
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[:, 5] = -torch.inf
        return scores


class OwnList(LogitsProcessorList):  # type: ignore[misc]
    pass


class OwnCriteria(StoppingCriteriaList):  # type: ignore[misc]
    pass


def may_stay(
    *processors: Any,
    kind: type[LogitsProcessorList] = LogitsProcessorList,
    criteria: StoppingCriteriaList | None = None,
) -> bool:
    whole = StoppingCriteriaList() if criteria is None else criteria
    return scores_stay(tiny_model(), [LogitsProcessorList(), kind(processors)], whole)


def test_everything_has_to_be_known() -> None:
    top, length = TopKLogitsWarper(3), transformers.MaxLengthCriteria(9)
    assert may_stay()
    assert may_stay(top, criteria=StoppingCriteriaList([length]))
    for other in (InPlace(3), Subclass(3), Overriding(3), lambda *arguments: arguments[1]):
        assert not may_stay(top, other)
    assert not may_stay(top, kind=OwnList)
    for criterion in (StopAfter(5), lambda *_: False):
        assert not may_stay(top, criteria=StoppingCriteriaList([length, criterion]))
    assert not may_stay(top, criteria=OwnCriteria([length]))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TopKLogitsWarper, "__call__"),
        (LogitsProcessorList, "__call__"),
        (StoppingCriteriaList, "__call__"),
        (transformers.GenerationMixin, "_sample"),
    ],
)
def test_a_function_of_the_library_that_was_replaced_is_not_known(
    kind: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = getattr(kind, name)

    @functools.wraps(library)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        return library(*args, **kwargs)

    assert may_stay(TopKLogitsWarper(3))
    monkeypatch.setattr(kind, name, replaced)
    assert not may_stay(TopKLogitsWarper(3))


def test_a_loop_of_the_program_is_not_known() -> None:
    model = tiny_model()

    def own(self: Any, *args: Any, **kwargs: Any) -> Any:
        return type(self)._sample(self, *args, **kwargs)

    model._sample = MethodType(own, model)
    assert not scores_stay(model, [], StoppingCriteriaList())


def stays(monkeypatch: pytest.MonkeyPatch, change: Callable[[bool], bool]) -> list[bool]:
    """Whether the scores of the steps from now on stay, once `change` has had its say."""
    seen, real = list[bool](), ScoreStages.__init__

    def init(self: ScoreStages, stages: int, logits: torch.Tensor, *, stay: bool = False) -> None:
        seen.append(stay)
        real(self, stages, logits, stay=change(stay))

    monkeypatch.setattr(ScoreStages, "__init__", init)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_the_record_is_the_same_without_copies(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def columns(change: Callable[[bool], bool]) -> list[dict[str, Any]]:
        model = tiny_model().to(dtype)
        with monkeypatch.context() as patch:
            seen = stays(patch, change)
            with collected(model) as run:
                torch.manual_seed(1)
                generate(model, batch(2), **SAMPLING, no_repeat_ngram_size=2)
        assert not run.problems()
        assert seen == [True] * len(run.steps)
        return [vars(step.scores) for step in run.steps]

    lent, copied = columns(lambda stay: stay), columns(lambda _: False)
    assert len(lent) == len(copied)
    for mine, other in zip(lent, copied, strict=True):
        for name, expected in other.items():
            np.testing.assert_array_equal(mine[name], expected, err_msg=name)


def test_a_criterion_that_writes_into_scores_changes_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    class Writing(StopAfter):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            scores[-1].fill_(-1.0)
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    model, inputs = tiny_model(), batch(2)

    def columns(criteria: list[Any]) -> list[np.ndarray[Any, Any]]:
        with collected(model) as run:
            torch.manual_seed(1)
            generate(
                model,
                inputs,
                **SAMPLING,
                output_scores=True,
                stopping_criteria=StoppingCriteriaList(criteria),
            )
        assert not run.problems()
        return [step.scores.scores for step in run.steps if step.scores is not None]

    for mine, expected in zip(columns([Writing(0)]), columns([]), strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_what_is_edited_at_a_halt_was_recorded_before(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(2)

    def edit(halt: Any) -> None:
        for name in ("next_token_logits", "next_token_scores"):
            if name in halt.local:
                halt.local[name].fill_(1.0)

    def traced(name: str, on_stop: Callable[[Any], None]) -> list[Step]:
        torch.manual_seed(1)
        with trace(model, path=tmp_path / name, on_stop=on_stop, stops="choice", stop_steps="2-3"):
            generate(model, inputs, **SAMPLING)
        with open_trace(tmp_path / name) as recording:
            return [*recording.steps]

    edited, plain = traced("edited.trace", edit), traced("plain.trace", lambda _: None)
    for mine, expected in zip(edited[:2], plain, strict=False):  # the third goes on from what was edited
        assert mine.scores is not None
        assert expected.scores is not None
        np.testing.assert_array_equal(mine.scores.entropy, expected.scores.entropy)
        np.testing.assert_array_equal(mine.scores.kept, expected.scores.kept)
        assert not mine.head.errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_the_program_does_to_its_result_changes_no_record(
    tmp_path: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = tiny_model().to(dtype), batch(2)
    record, may_go_on = Committer.record, threading.Event()

    def recorded(name: str, *, edited: bool) -> list[dict[str, Any]]:
        may_go_on.clear()
        with trace(model, path=tmp_path / name):
            result = generate(model, inputs, **SAMPLING, output_scores=True)
            for scores in (*result.scores, *result.logits) if edited else ():
                scores.fill_(1.0)
            may_go_on.set()
        with open_trace(tmp_path / name) as recording:
            return [vars(step.scores) for step in recording.steps]

    def late(committer: Committer, jobs: list[Any]) -> None:
        assert may_go_on.wait(60)
        record(committer, jobs)

    monkeypatch.setattr(Committer, "record", late)
    edited, plain = recorded("edited.trace", edited=True), recorded("plain.trace", edited=False)
    assert len(edited) == len(plain) > 0
    for mine, expected in zip(edited, plain, strict=True):
        for name, values in expected.items():
            np.testing.assert_array_equal(mine[name], values, err_msg=name)


def test_a_halt_of_one_trace_costs_another_nothing(tmp_path: Path) -> None:
    def edit(halt: Any) -> None:
        halt.local["next_token_scores"].clamp_(min=-50)

    model, inputs, paths = tiny_model(), batch(2), [tmp_path / "seen.trace", tmp_path / "halted.trace"]
    with (
        trace(model, path=paths[0]),
        trace(model, path=paths[1], on_stop=edit, stops="choice", stop_steps="1,2"),
    ):
        generate(model, inputs, **SAMPLING)
    found = []
    for path in paths:
        with open_trace(path) as recording:
            steps = [*recording.steps]
        assert not any(step.head.errors for step in steps)
        found.append([vars(step.scores) for step in steps])
    for mine, other in zip(*found, strict=True):
        for name, values in other.items():
            np.testing.assert_array_equal(mine[name], values, err_msg=name)


@pytest.fixture
def unknown_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that is taken for one that only reads, and writes into what it is given."""
    library = TopKLogitsWarper.__call__

    def writing(self: Any, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = library(self, input_ids, scores)
        scores[:, 5] = 77.0
        return result

    monkeypatch.setattr(TopKLogitsWarper, "__call__", writing)
    monkeypatch.setattr("hooks.loop.generation_watch.scores_stay", lambda *_: True)


@pytest.mark.usefixtures("unknown_writer")
def test_what_writes_all_the_same_is_told_and_costs_nothing_but_the_scores() -> None:
    model, inputs = tiny_model(), batch(2)
    untraced = generate(model, inputs, **SAMPLING)
    with collected(model) as run:
        traced = generate(model, inputs, **SAMPLING)
    assert torch.equal(untraced.sequences, traced.sequences)
    for step in run.steps:
        assert step.scores is None
        assert step.modules is not None
        assert step.cache is not None
        assert step.head.draw is not None
        assert [(error.stop, error.message) for error in step.head.errors] == [
            ("processors", "something wrote into the scores of stage 2 behind its processor")
        ]


@pytest.mark.usefixtures("unknown_writer")
def test_a_run_that_is_told_its_tokens_takes_them_all_the_same() -> None:
    model, inputs, run = tiny_model(), batch(), CollectedRun()
    origin = ForkOrigin(trace="t", run=1, step=3, row=0, token=None, banned=(), settings={}, seed=None)
    course = Course(origin, [(11,), (12,)], (TokenChange("force", 13, None, "13"),), {1: "given", 2: "given"})
    with GenerationWatch(model, CaptureSettings(), course=course).into(run):
        ids = generate(model, inputs, **SAMPLING).sequences
    start = inputs["input_ids"].shape[1]
    assert ids[0, start : start + 3].tolist() == [11, 12, 13]
    assert [len(step.head.interventions) for step in run.steps[:3]] == [1, 1, 1]
