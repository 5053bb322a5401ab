"""Questions about runs of DoLa decoding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hooks.scores.replay import TorchReplayer
from reports.view.questions.diff import HEADLINES
from reports.view.questions.why import why_view
from reports.view.run.totals import RunTotals
from tests.support.models import SAMPLING, tiny_model
from tests.tracer.analysis.runs import MemoryRun, real_run
from tracer.analysis.diff import diff
from tracer.analysis.processors.settings import Settings
from tracer.analysis.whatif import whatif
from tracer.analysis.why import why_in_run

pytestmark = pytest.mark.reference_only

PENALTY = {"repetition_penalty": 1.2}


def dola_run(layers: str | list[int] = "high", settings: dict[str, Any] = SAMPLING, **more: Any) -> MemoryRun:
    model = tiny_model(num_hidden_layers=6)
    return real_run(model, **{**settings, **PENALTY, "dola_layers": layers, **more})


@pytest.fixture(scope="module")
def sampled() -> MemoryRun:
    return dola_run()


def test_a_plain_run_differs_by_its_loop(sampled: MemoryRun) -> None:
    plain = real_run(tiny_model(num_hidden_layers=6), **{**SAMPLING, **PENALTY})
    report = diff(plain, sampled)
    assert (report.same, report.reason) == (False, "loop")
    assert HEADLINES[report.reason] == "They differ: other decoding loops"
    assert "_sample / _dola_decoding" in report.explanation
    first = report.facts[0]
    assert (first.name, first.a, first.b) == ("decoding loop", "_sample", "_dola_decoding")
    assert report.first is None
    assert report.logits == ()
    assert not any("logits" in note for note in report.notes)


def test_runs_on_other_layers_differ_by_that_setting(sampled: MemoryRun) -> None:
    report = diff(sampled, dola_run("low"))
    assert (report.same, report.reason) == (False, "settings")
    assert "dola_layers high / low" in report.explanation


def test_the_same_run_again_is_the_same(sampled: MemoryRun) -> None:
    report = diff(sampled, dola_run(), tolerance=0)
    assert (report.same, report.reason) == (True, "identical")


def test_other_weights_are_the_models_own(sampled: MemoryRun) -> None:
    other = tiny_model(num_hidden_layers=6, seed=1)
    report = diff(sampled, real_run(other, **{**SAMPLING, **PENALTY, "dola_layers": "high"}))
    assert report.reason == "weights"


@pytest.mark.parametrize("saved", [True, False])
def test_why_says_that_the_contrast_left_a_token_out(sampled: MemoryRun, saved: bool) -> None:
    run = sampled if saved else sampled.without()
    step = run.steps[0]
    assert step.scores is not None
    left = {int(token) for token in step.scores.tokens[0] if token >= 0}
    gone = next(token for token in range(100) if token not in left)
    report = why_in_run(run, 1, gone)
    assert report.verdict == "removed"
    assert report.stages[0].score == -np.inf
    view = why_view(report, run.tokens)
    assert view.verdict.startswith("The contrast left it out: the last layer gives it less than a tenth")
    assert [note for note in report.notes if "contrast" in note] == []
    assert view.stages[0].name == "contrasts"


def test_a_filter_that_has_nothing_to_remove_is_put_into_words() -> None:
    run = dola_run(top_k=50)
    step = run.steps[0]
    assert step.scores is not None
    view = why_view(why_in_run(run, 1, int(step.scores.chosen[0])), run.tokens)
    assert "no token that was left scores below its line" in [stage.remark for stage in view.stages]


@pytest.mark.parametrize(
    "changes", [{"temperature": 1.7}, {"top_p": 1.0}, {"repetition_penalty": 1.5}], ids=str
)
def test_other_settings_give_what_a_run_with_them_gives(sampled: MemoryRun, changes: dict[str, Any]) -> None:
    report = whatif(sampled, Settings.of(changes), replayer=TorchReplayer())
    other = dola_run(**changes)
    first, again = report.steps[0], other.steps[0]
    assert again.scores is not None
    assert first.token == int(again.scores.chosen[0])
    assert first.kept == int(again.scores.kept[-1, 0])


def test_the_whole_run_says_that_the_contrast_was_checked(sampled: MemoryRun) -> None:
    totals = RunTotals()
    for step in sampled.steps:
        totals.add(step)
    assert f"contrast of layers ({len(sampled.steps)})" in next(iter(totals.notes())).text
