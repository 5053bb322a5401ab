from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.halting.stops import (
    ALL_STEPS,
    DEFAULT_STOPS,
    HALTS,
    StopPlan,
    default_stops,
    parse_steps,
    parse_stops,
    plan_stops,
)
from tracer.library.release import installed_release
from tracer.schema.run import ALL_STOPS, StopName


def test_the_default_is_the_walkthrough() -> None:
    plan = plan_stops()
    assert plan == StopPlan(default_stops(installed_release().sample))
    assert set(plan.stops) - {"processors", "warpers"} == {"model-call", "forward-result", "choice", "update"}
    assert [step for step in range(1, 9) if plan.halts("choice", step)] == [1, 2]
    assert not plan.halts("softmax", 1)
    assert plan_stops(default_steps=ALL_STEPS).halts("choice", 999)


def test_stops_are_put_in_the_order_in_which_they_happen() -> None:
    assert parse_stops(" update,Model-Call , update") == ("model-call", "update")
    assert parse_stops(["choice", "next-logits"]) == ("next-logits", "choice")
    assert parse_stops("all") == HALTS


@given(st.lists(st.sampled_from(HALTS), min_size=1))
def test_any_list_of_known_stops(names: list[StopName]) -> None:
    parsed = parse_stops(",".join(names))
    assert set(parsed) == set(names)
    assert sorted(parsed, key=ALL_STOPS.index) == list(parsed)


@pytest.mark.parametrize("text", ["", "layers", "run-header", "choise", "choice,,update", "all,choice", "*"])
def test_an_unknown_stop_is_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_stops(text)
    assert all(name in str(refused.value) for name in DEFAULT_STOPS)
    assert "\n" not in str(refused.value)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(UsageError, match=r"Did you mean choice\?"):
        parse_stops("choise")


@pytest.mark.parametrize(
    ("text", "held"),
    [("1,2", [1, 2]), ("3-5", [3, 4, 5]), ("2, 4-4", [2, 4]), ("ALL", [1, 2, 3, 4, 5, 6]), ("none", [])],
)
def test_step_numbers(text: str, held: list[int]) -> None:
    steps = parse_steps(text)
    assert [step for step in range(1, 7) if step in steps] == held


@pytest.mark.parametrize("text", ["", "0", "-1", "1-", "a", "5-3", "1,,2", "1.5", "1;2"])
def test_wrong_step_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_steps(text)


def test_steps_and_breaks_from_python() -> None:
    plan = plan_stops(["choice"], [3, 5], "p_chosen < 0.5")
    assert [step for step in range(1, 7) if plan.halts("choice", step)] == [3, 5]
    assert [condition.text for condition in plan.breaks] == ["p_chosen < 0.5"]
    with pytest.raises(UsageError):
        plan_stops(breaks=["nonsense ="])
