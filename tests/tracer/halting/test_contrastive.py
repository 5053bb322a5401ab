"""A contrastive search that is halted: every stop, and what is known there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.decoding import CONTRASTIVE, contrastive
from tests.support.models import batch, tiny_model
from tests.tracer.halting.test_beams_and_assisted import Seen, halted, steps_of
from tests.tracer.stepper.sessions import stepped, untouched
from tests.tracer.stepper.test_stepper import halts
from tracer.library.loops.contrastive import CONTRASTIVE_4_44
from tracer.schema.run import StopName

pytestmark = pytest.mark.reference_only

STOPS = [stop for stop in CONTRASTIVE_4_44.stops if stop not in ("run-header", "layers")]
LATER = [stop for stop in STOPS if stop not in ("prefill", "next-logits")]
HOW: dict[str, Any] = {"do_sample": False, **CONTRASTIVE["processed"]}


def search_halts(path: Path, name: str = "qwen2") -> list[Seen]:
    model, inputs = tiny_model(name), batch(2)
    untraced = contrastive(model, inputs, **HOW).sequences
    found = list[torch.Tensor]()
    seen = halted(path, model, lambda: found.append(contrastive(model, inputs, **HOW).sequences))
    assert torch.equal(found[0], untraced)
    return seen


def dated(seen: Seen) -> list[tuple[int, StopName]]:
    """Cards with their steps: the halt at the first stop of a step shows the rest of the one before too."""
    first = seen.stop == "processors" and seen.step > 1
    return [(seen.step - (first and card == "stopping"), card) for card in seen.cards]


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_every_stop_in_order(name: str, tmp_path: Path) -> None:
    seen = search_halts(tmp_path / "run.trace", name)
    places = [(each.step, each.stop) for each in seen]
    assert places == [(1, stop) for stop in STOPS] + [(2, stop) for stop in LATER]
    recorded = steps_of(tmp_path / "run.trace")
    for each in seen:
        assert not [check for check in each.record.head.checks if check.result == "failed"]
        assert each.function == ("forward" if each.stop == "forward-result" else "_contrastive_search")
        order, record = STOPS.index(each.stop), each.record.head
        assert record.step == each.step
        assert (each.record.scores is not None) == (order >= STOPS.index("processors"))
        found = record.contrastive
        assert (found is not None) == (order >= STOPS.index("model-call")), (each.step, each.stop)
        if found is not None:
            whole = recorded[each.step - 1].head.contrastive
            assert whole is not None
            assert found.repeated == whole.repeated
            assert found.rows == (whole.rows if order > STOPS.index("append") else ())
    cards = [found for each in seen for found in dated(each)]
    assert len(cards) == len(set(cards))
    shown = {place: each.stop for each in seen for place in dated(each)}
    assert shown[1, "prefill"] == "next-logits"
    assert shown[1, "next-logits"] == shown[2, "next-logits"] == "processors"
    assert shown[1, "top-k"] == shown[2, "top-k"] == "softmax"  # all processors have run
    assert shown[2, "prefill"] == "processors"
    assert shown[1, "model-call"] == shown[2, "repeat"] == "model-call"
    assert shown[1, "choice"] == shown[2, "select"] == "update"


def test_each_card_of_the_stepper_comes_once(tmp_path: Path) -> None:
    session = stepped(tmp_path, *["n"] * 150, stops="all", **HOW)
    assert session.sequences is not None
    assert torch.equal(session.sequences, untouched(**HOW))
    titles = re.findall(r"^ *\d+ ([a-z].*?)(?: \(skipped\))? ─", session.text, re.MULTILINE)
    assert set(Counter(titles).values()) == {len(session.steps)}
    assert len(set(titles)) == len(CONTRASTIVE_4_44.stops) - 1


def test_the_stepper_halts_where_a_condition_holds(tmp_path: Path) -> None:
    session = stepped(tmp_path, *["c"] * 20, stops="choice", breaks=("penalty_decided",), **HOW)
    ends = [place for place in halts(session.text) if place.startswith("end")]
    decided = [
        f"end {step.number}"
        for step in session.steps
        if step.head.contrastive is not None
        and any(row is not None and row.penalty_decided for row in step.head.contrastive.rows)
    ]
    assert ends == decided != []


@pytest.mark.parametrize("command", ["force 9", "ban 9", "whatif temperature=2"])
def test_what_rows_do_not_choose_by_probability_alone_is_refused(command: str, tmp_path: Path) -> None:
    session = stepped(tmp_path, command, "c", stops="choice", **HOW)
    assert session.after(command).strip().startswith("✗ ")
    assert "contrastive search" in session.after(command)
    assert not any(step.head.interventions for step in session.steps)


def test_a_changed_setting_is_recorded_from_the_next_step_on(tmp_path: Path) -> None:
    session = stepped(tmp_path, "set repetition_penalty 1.5", "c", stops="choice", **HOW)
    assert len(session.steps) > 1
    for step in session.steps:
        details = [each.detail for each in step.head.interventions]
        assert details == ([] if step.number == 1 else ["repetition_penalty 1.5"])
        assert not [check for check in step.head.checks if check.result == "failed"]
