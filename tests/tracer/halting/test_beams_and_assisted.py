"""Runs of beam search and assisted decoding that are halted: every stop, and what is known there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.checkpoints import tiny_tokenizer
from tests.support.decoding import BEAMS, SAMPLING, assisted, drafted, prompt, search
from tests.support.models import batch, tiny_model
from tests.tracer.stepper.sessions import stepped, untouched
from tests.tracer.stepper.test_stepper import halts
from tracer import open_trace, trace
from tracer.errors import UsageError
from tracer.halting.callback import Halt
from tracer.halting.stops import plan_stops
from tracer.library.loops.assisted import ASSISTED_4_44
from tracer.library.release import installed_release
from tracer.schema.run import StopName
from tracer.schema.step import Step

BEAM_SEARCH = installed_release().loop_of("beam_search")
assert BEAM_SEARCH is not None

only_here = pytest.mark.reference_only("the statements of assisted decoding are compared with those of 4.44")

WARPED = {**SAMPLING, "max_new_tokens": 10}
GREEDY: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.05, "max_new_tokens": 10}


@dataclass
class Seen:
    """What a callback saw at a halt."""

    step: int
    stop: StopName
    function: str
    cards: list[StopName]
    record: Step
    local: dict[str, Any]


def halted(path: Path, model: Any, run: Callable[[], Any], stops: str | None = "all") -> list[Seen]:
    seen = list[Seen]()

    def on_stop(halt: Halt) -> None:
        assert halt.stop is not None
        assert halt.record is not None
        cards = [card.stop for card in halt.cards]
        seen.append(Seen(halt.step, halt.stop, halt.frame.f_code.co_name, cards, halt.record, {**halt.local}))

    options: dict[str, Any] = {} if stops is None else {"stops": stops}
    with trace(model, tiny_tokenizer(), path, on_stop=on_stop, **options):
        run()
    return seen


def beam_halts(path: Path, mode: str, stops: str | None = "all", rows: int = 2) -> list[Seen]:
    model, inputs = tiny_model(), batch(rows)
    untraced = search(model, inputs, **BEAMS[mode]).sequences
    found = list[torch.Tensor]()
    run = lambda: found.append(search(model, inputs, **BEAMS[mode]).sequences)  # noqa: E731
    seen = halted(path, model, run, stops)
    assert torch.equal(found[0], untraced)
    return seen


PROPOSERS: dict[str, dict[str, Any]] = {
    "draft, greedy": {"draft": True, **GREEDY},
    "draft, sampling": {"draft": True, **WARPED},
    "lookup, greedy": {"prompt_lookup_num_tokens": 3, **GREEDY},
    "lookup, sampling": {"prompt_lookup_num_tokens": 3, **WARPED},
}


def assisted_halts(path: Path, mode: str, stops: str | None = "all") -> list[Seen]:
    model, how = tiny_model(), dict(PROPOSERS[mode])
    if how.pop("draft", False):
        how["assistant_model"] = drafted(model)
    untraced = assisted(model, prompt(), **how).sequences
    found = list[torch.Tensor]()
    run = lambda: found.append(assisted(model, prompt(), **how).sequences)  # noqa: E731
    seen = halted(path, model, run, stops)
    assert torch.equal(found[0], untraced)
    return seen


def steps_of(path: Path) -> list[Step]:
    with open_trace(path) as recording:
        return [*recording.steps]


def assert_each_card_once(seen: list[Seen]) -> None:
    cards = [(step, card) for each in seen for step, card in _dated(each)]
    assert len(cards) == len(set(cards))


def _dated(seen: Seen) -> list[tuple[int, StopName]]:
    """Cards with their steps: the halt at the first stop shows the rest of the step before too."""
    if seen.stop != "model-call":
        return [(seen.step, card) for card in seen.cards]
    return [(seen.step - (card == "stopping"), card) for card in seen.cards]


NOT_HALTED = ("run-header", "candidates", "layers")


def functions_of(stop: StopName) -> set[str]:
    """The functions in which a beam search stands at a stop."""
    assert BEAM_SEARCH is not None
    found = (each.function for each in BEAM_SEARCH.statements if each.stop == stop)
    return {function or "_beam_search" for function in found}


@pytest.mark.parametrize("mode", ["greedy", "several", "sampling"])
def test_every_stop_of_a_beam_search_in_order(mode: str, tmp_path: Path) -> None:
    seen = beam_halts(tmp_path / "run.trace", mode)
    assert BEAM_SEARCH is not None
    order = [stop for stop in BEAM_SEARCH.stops if stop not in NOT_HALTED]
    if mode != "sampling":
        order = [stop for stop in order if stop not in ("warpers", "softmax")]
    assert [(each.step, each.stop) for each in seen] == [(step, stop) for step in (1, 2) for stop in order]
    recorded, decided = steps_of(tmp_path / "run.trace"), order.index("beams")
    for each in seen:
        assert not [check for check in each.record.head.checks if check.result == "failed"]
        assert each.function in functions_of(each.stop)
        known = order.index(each.stop) > decided
        assert (each.record.head.beams is not None) == known, (each.step, each.stop)
        if known:
            assert each.record.head.beams == recorded[each.step - 1].head.beams
            assert each.record.parents == recorded[each.step - 1].parents
    assert_each_card_once(seen)
    shown = {(step, card): each.stop for each in seen for step, card in _dated(each)}
    for step in (1, 2):
        assert shown[step, "choice"] == shown[step, "beams"] == order[decided + 1]
        assert shown[step, "reorder"] == "reorder"
        assert set(BEAM_SEARCH.stops[1:]) - {card for at, card in shown if at == step} <= {"stopping"}


@pytest.mark.reference_only("where the beams are assigned is another stop")
def test_rows_have_their_own_beams_at_a_halt(tmp_path: Path) -> None:
    for each in beam_halts(tmp_path / "run.trace", "greedy", "append"):
        record = each.record.head.beams
        assert record is not None
        assert list(record.parents) == each.local["beam_idx"].tolist()
        assert list(record.scores) == each.local["beam_scores"].tolist()
        assert each.record.scores is not None
        assert each.record.scores.chosen.tolist() == each.local["beam_next_tokens"].tolist()


@only_here
@pytest.mark.parametrize("mode", PROPOSERS)
def test_every_stop_of_assisted_decoding_in_order(mode: str, tmp_path: Path) -> None:
    seen = assisted_halts(tmp_path / "run.trace", mode)
    order = [stop for stop in ASSISTED_4_44.stops if stop not in NOT_HALTED]
    if "greedy" in mode:
        order = [stop for stop in order if stop not in ("warpers", "softmax")]
    if mode == "draft, sampling":
        order.remove("softmax")  # speculative sampling does it inside of its choice
    assert [(each.step, each.stop) for each in seen] == [(step, stop) for step in (1, 2) for stop in order]
    recorded, decided = steps_of(tmp_path / "run.trace"), order.index("strategy")
    for each in seen:
        assert not [check for check in each.record.head.checks if check.result == "failed"]
        assert each.function == ("forward" if each.stop == "forward-result" else "_assisted_decoding")
        known = order.index(each.stop) > decided
        assert (each.record.head.assisted is not None) == known, (each.step, each.stop)
        assert (each.record.scores is not None) == known, (each.step, each.stop)
        if known:
            record, scores = recorded[each.step - 1], each.record.scores
            assert each.record.head.assisted == record.head.assisted
            assert scores is not None
            assert record.scores is not None
            assert scores.chosen.tolist() == record.scores.chosen.tolist()
            assert scores.probabilities.tolist() == record.scores.probabilities.tolist()
    assert_each_card_once(seen)
    shown = {(step, card): each.stop for each in seen for step, card in _dated(each)}
    for step in (1, 2):
        assert shown[step, "candidates"] == shown[step, "choice"] == "update"
        assert shown[step, "layers"] == "forward-result"
        assert set(ASSISTED_4_44.stops[1:]) - {card for at, card in shown if at == step} <= {"stopping"}


@only_here
def test_proposals_of_the_halted_runs_are_accepted_and_rejected(tmp_path: Path) -> None:
    found = set()
    for mode in PROPOSERS:
        assisted_halts(tmp_path / f"{mode}.trace", mode, "choice")
        for step in steps_of(tmp_path / f"{mode}.trace"):
            assert step.head.assisted is not None
            found |= {each.accepted for each in step.head.assisted.proposals}
    assert found == {True, False}


def test_where_nothing_is_halted_candidates_are_no_place_to_halt() -> None:
    with pytest.raises(UsageError, match="'candidates': no such place to halt"):
        plan_stops("candidates")


def test_default_stops(tmp_path: Path) -> None:
    plan = plan_stops(None, None, ()).stops
    assert BEAM_SEARCH is not None
    default = [stop for stop in BEAM_SEARCH.stops if stop in plan]
    seen = beam_halts(tmp_path / "beams.trace", "sampling", None)
    assert [each.stop for each in seen] == [*default, *default]
    loop = installed_release().loop_of("assisted_generation")
    assert loop is not None
    default = [stop for stop in loop.stops if stop in plan]
    seen = assisted_halts(tmp_path / "assisted.trace", "draft, sampling", None)
    assert [each.stop for each in seen] == [*default, *default]


@pytest.mark.parametrize("stop", ["beams", "reorder", "crop", "strategy"])
def test_a_plain_run_has_no_such_stop(stop: str, tmp_path: Path) -> None:
    model = tiny_model()
    run = lambda: model.generate(**batch(1), max_new_tokens=3, pad_token_id=0)  # noqa: E731
    assert halted(tmp_path / "run.trace", model, run, stop) == []


BEAMS_OF_BOTH: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 3},
    "lookup": {"prompt_lookup_num_tokens": 3},
}


@pytest.mark.parametrize("mode", BEAMS_OF_BOTH)
@pytest.mark.parametrize("drawn", [False, True], ids=["greedy", "sampling"])
def test_each_card_of_the_stepper_comes_once(mode: str, drawn: bool, tmp_path: Path) -> None:
    session = stepped(tmp_path, *["n"] * 150, stops="all", do_sample=drawn, **BEAMS_OF_BOTH[mode])
    assert session.sequences is not None
    titles = re.findall(r"^ *\d+ ([a-z].*?) ─", session.text, re.MULTILINE)
    loop = installed_release().loop_of("beam_search" if mode == "beams" else "assisted_generation")
    assert loop is not None
    assert Counter(titles) == dict.fromkeys(set(titles), len(session.steps))
    assert len(set(titles)) == len(loop.stops) - 1


def test_the_stepper_halts_where_a_condition_holds(tmp_path: Path) -> None:
    breaks = ("beam_switched",)
    session = stepped(tmp_path, *["c"] * 9, stops="choice", breaks=breaks, do_sample=False, num_beams=3)
    ends = [place for place in halts(session.text) if place.startswith("end")]
    switched = [f"end {each.number}" for each in session.steps if [*each.parents] != [0, 1, 2]]
    assert ends == switched != []


@pytest.mark.parametrize("mode", BEAMS_OF_BOTH)
@pytest.mark.parametrize("command", ["force 9", "ban 9", "whatif temperature=2"])
def test_what_rows_do_not_choose_by_themselves_is_refused(mode: str, command: str, tmp_path: Path) -> None:
    session = stepped(tmp_path, command, "c", stops="choice", do_sample=False, **BEAMS_OF_BOTH[mode])
    assert session.after(command).strip().startswith("✗ ")
    assert ("beam search" if mode == "beams" else "assisted decoding") in session.after(command)
    assert not any(step.head.interventions for step in session.steps)
    assert session.sequences is not None
    assert torch.equal(session.sequences, untouched(do_sample=False, **BEAMS_OF_BOTH[mode]))


@pytest.mark.parametrize("mode", BEAMS_OF_BOTH)
def test_a_changed_setting_is_recorded_from_the_next_step_on(mode: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.1, **BEAMS_OF_BOTH[mode]}
    session = stepped(tmp_path, "set repetition_penalty 1.5", "c", stops="choice", **how)
    assert len(session.steps) > 1
    for step in session.steps:
        details = [each.detail for each in step.head.interventions]
        assert details == ([] if step.number == 1 else ["repetition_penalty 1.5"])
        assert not [check for check in step.head.checks if check.result == "failed"]
