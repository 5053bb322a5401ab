"""A run that failed is gone through as far as it came."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hooks.loop.test_failed_steps import FAILING, Broken, failing
from tests.support.models import tiny_model
from tracer.analysis.conditions.condition import parse_condition
from tracer.errors import UsageError
from tracer.replay.answers.console import Asked, answer
from tracer.replay.ending import ending
from tracer.replay.terminal.rules import ConditionRules
from tracer.replay.travel import NoRules, Travel
from tracer.replay.values.library import FrameKind, later_variables, local_variables
from tracer.replay.values.scopes import SCOPES
from tracer.schema.run import StopName

LAST: dict[str, StopName] = {
    "processor": "processors",
    "criterion": "stopping",
    "streamer": "append",
    "forward": "model-call",
}


@pytest.fixture(params=FAILING)
def travel(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Travel, StopName]:
    model = tiny_model()
    make, _, _ = FAILING[request.param]
    recording = failing(tmp_path / "run.trace", model, Broken, level="tensors", **make(model))
    return Travel(recording.run()), LAST[request.param]


def test_it_ends_at_the_line_that_failed(travel: tuple[Travel, StopName]) -> None:
    journey, stop = travel
    assert journey.run(NoRules(), back=False).reason == "end"
    assert (journey.position.step, journey.position.stop) == (3, stop)
    text = ending(journey.moment.run)
    assert text.startswith("The run failed in step 3, at ")
    assert "not this one" in text
    assert journey.stop_by_stop(NoRules(), back=False).reason == "end"
    journey.run(NoRules(), back=True)
    assert journey.position == journey.timeline.first
    rules = ConditionRules([parse_condition("step == 3")])
    assert journey.run(rules, back=False).reason == "breakpoint"
    assert journey.position.stop == stop


def test_everything_up_to_there_can_be_looked_at(travel: tuple[Travel, StopName]) -> None:
    journey, stop = travel
    first = journey.timeline.first
    for position in [first, *journey.timeline.onwards(first, back=False)]:
        journey.go(position)
        moment = journey.moment
        kind: FrameKind = "forward" if position.stop == "forward-result" else "sample"
        values = [make() for make in (local_variables(moment, kind) | later_variables(moment)).values()]
        values += [make(moment, 0) for make in SCOPES.values()]
        assert all(part.value.text is not None for value in values for part in value.names())
    later = later_variables(journey.moment)
    assert ("next_tokens" in later) == (stop in ("append", "stopping"))
    if stop == "append":  # the streamer failed behind the choice, of which no record was made
        assert later["next_tokens"]().text == "not recorded: the choice of this step was not"
    if "next_tokens" not in later:
        with pytest.raises(UsageError, match="there is no next_tokens"):
            answer(Asked(journey.moment, "sample", 0), "next_tokens")


def test_a_step_is_not_gone_to_beyond_its_end(travel: tuple[Travel, StopName]) -> None:
    journey, stop = travel
    if stop != "stopping":
        with pytest.raises(UsageError, match="the run failed in step 3, before stopping"):
            journey.timeline.at(3, "stopping")
