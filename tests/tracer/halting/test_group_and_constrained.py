"""Runs of group and constrained beam search that are halted: every stop, and what is known there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.decoding import CONSTRAINED, GROUPS, search
from tests.support.models import batch, tiny_model
from tests.tracer.halting.test_beams_and_assisted import (
    NOT_HALTED,
    assert_each_card_once,
    halted,
    steps_of,
)
from tests.tracer.stepper.sessions import stepped, untouched
from tests.tracer.stepper.test_stepper import halts
from tracer.library.loop import Loop
from tracer.library.loops.constrained_search import CONSTRAINED_SEARCH_4_44
from tracer.library.loops.group_search import GROUP_SEARCH_4_44

pytestmark = pytest.mark.reference_only

MODES: dict[str, tuple[Loop, dict[str, Any]]] = {
    "groups": (GROUP_SEARCH_4_44, {**GROUPS["two"], "diversity_penalty": 0.1}),
    "constrained": (CONSTRAINED_SEARCH_4_44, CONSTRAINED["phrase"]),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_stop_in_order(mode: str, tmp_path: Path) -> None:
    loop, settings = MODES[mode]
    model, inputs = tiny_model(), batch(2)
    untraced = search(model, inputs, **settings).sequences
    found = list[torch.Tensor]()
    run = lambda: found.append(search(model, inputs, **settings).sequences)  # noqa: E731
    seen = halted(tmp_path / "run.trace", model, run)
    assert torch.equal(found[0], untraced)
    order = [stop for stop in loop.stops if stop not in NOT_HALTED]
    assert [(each.step, each.stop) for each in seen] == [(step, stop) for step in (1, 2) for stop in order]
    recorded, decided = steps_of(tmp_path / "run.trace"), order.index("beams")
    for each in seen:
        assert not [check for check in each.record.head.checks if check.result == "failed"]
        assert not each.record.head.errors
        assert each.function == ("forward" if each.stop == "forward-result" else loop.method)
        known = order.index(each.stop) > decided
        assert (each.record.head.beams is not None) == known, (each.step, each.stop)
        if known:
            assert each.record.head.beams == recorded[each.step - 1].head.beams
            assert each.record.parents == recorded[each.step - 1].parents
    assert_each_card_once(seen)


@pytest.mark.parametrize("mode", MODES)
def test_each_card_of_the_stepper_comes_once(mode: str, tmp_path: Path) -> None:
    loop, settings = MODES[mode]
    session = stepped(tmp_path, *["n"] * 150, stops="all", **settings)
    assert session.sequences is not None
    assert torch.equal(session.sequences, untouched(**settings))
    titles = re.findall(r"^ *\d+ ([a-z].*?) ─", session.text, re.MULTILINE)
    assert Counter(titles) == dict.fromkeys(set(titles), len(session.steps))
    assert len(set(titles)) == len(loop.stops) - 1


def _paid(step: Any) -> bool:
    rows = step.head.beams.rows[1].continuations
    return any(each.row is not None and (each.penalty or 0) > 0.05 for each in rows)


def _met_by_force(step: Any) -> bool:
    beams = step.head.beams
    met = [row for row, reached in enumerate(beams.constraints.progress) if reached[0].status == "met"]
    return any(each.forced and each.row in met for each in beams.rows[0].continuations)


BREAKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "groups": ("group == 1 and penalty_paid > 0.05", _paid),
    "constrained": ("constraint_forced and constraints_met == 1", _met_by_force),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_stepper_halts_where_a_condition_holds(mode: str, tmp_path: Path) -> None:
    condition, holds = BREAKS[mode]
    session = stepped(tmp_path, *["c"] * 9, stops="choice", breaks=(condition,), **MODES[mode][1])
    ends = [place for place in halts(session.text) if place.startswith("end")]
    wanted = [f"end {step.number}" for step in session.steps if holds(step)]
    assert ends == wanted != []


@pytest.mark.parametrize("mode", MODES)
def test_what_rows_do_not_choose_by_themselves_is_refused(mode: str, tmp_path: Path) -> None:
    session = stepped(tmp_path, "force 9", "c", stops="choice", **MODES[mode][1])
    assert session.after("force 9").strip().startswith("✗ ")
    assert f"{MODES[mode][0].title}" in session.after("force 9")
    assert session.sequences is not None
    assert torch.equal(session.sequences, untouched(**MODES[mode][1]))


def test_a_changed_setting_holds_for_the_groups_that_follow_in_the_step(tmp_path: Path) -> None:
    how = {**GROUPS["two"], "repetition_penalty": 1.1}
    session = stepped(tmp_path, "set repetition_penalty 1.5", "c", stops="choice", **how)
    for step in session.steps:
        assert [each.detail for each in step.head.interventions] == ["repetition_penalty 1.5"]
    assert not [check for step in session.steps for check in step.head.checks if check.result == "failed"]
