"""A run of DoLa decoding that is halted: every stop, what is known there, and what is not yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import GREEDY, SAMPLING, batch, generate, tiny_model
from tests.tracer.stepper.sessions import stepped
from tests.tracer.stepper.test_stepper import halts
from tracer import open_trace, trace
from tracer.halting.callback import Halt
from tracer.halting.stops import plan_stops
from tracer.library.loops.dola import DOLA_4_44
from tracer.schema.contrast import LayerContrast
from tracer.schema.run import StopName
from tracer.schema.step import Step

pytestmark = pytest.mark.reference_only

DOLA: dict[str, Any] = {"dola_layers": [0, 1], "repetition_penalty": 1.2}
MODES = {"greedy": {**GREEDY, **DOLA}, "sampling": {**SAMPLING, **DOLA}}
ORDER = [stop for stop in DOLA_4_44.stops if stop not in ("run-header", "layers")]


@dataclass
class Seen:
    """What a callback saw at each halt of one step."""

    step: int
    stop: StopName
    function: str
    cards: list[StopName]
    record: Step
    local: set[str] = field(default_factory=set)


def halted(path: Path, stops: str | None, **mode: Any) -> list[Seen]:
    model, seen = tiny_model(), list[Seen]()
    untraced = generate(model, batch(2), **mode)

    def on_stop(halt: Halt) -> None:
        assert halt.stop is not None
        assert halt.record is not None
        cards = [card.stop for card in halt.cards]
        local = {name for name, value in halt.local.items() if value is not None}
        seen.append(Seen(halt.step, halt.stop, halt.frame.f_code.co_name, cards, halt.record, local))

    options: dict[str, Any] = {} if stops is None else {"stops": stops}
    with trace(model, tiny_tokenizer(), path, on_stop=on_stop, **options):
        assert torch.equal(generate(model, batch(2), **mode).sequences, untraced.sequences)
    return seen


def contrasts(path: Path) -> list[LayerContrast | None]:
    with open_trace(path) as recording:
        return [step.head.contrast for step in recording.steps]


@pytest.mark.parametrize("mode", MODES)
def test_every_stop_in_order_and_nothing_before_it_is_known(mode: str, tmp_path: Path) -> None:
    seen = halted(tmp_path / "run.trace", "all", **MODES[mode])
    order = [stop for stop in ORDER if stop != "warpers" or mode == "sampling"]
    order = [stop for stop in order if stop != "softmax" or mode == "sampling"]
    assert [(each.step, each.stop) for each in seen] == [(step, stop) for step in (1, 2) for stop in order]
    recorded = contrasts(tmp_path / "run.trace")
    before = ("model-call", "forward-result", "next-logits", "contrast")
    for each in seen:
        assert not [check for check in each.record.head.checks if check.result == "failed"]
        assert each.function == ("forward" if each.stop == "forward-result" else "_dola_decoding")
        known = each.stop not in before
        assert (each.record.head.contrast is not None) == known, (each.step, each.stop)
        assert (each.record.scores is not None) == known, (each.step, each.stop)
        if known:
            assert each.record.head.contrast == recorded[each.step - 1]
    shown = {(each.step, card): each.stop for each in seen for card in each.cards}
    for step in (1, 2):
        assert shown[step, "next-logits"] in ("next-logits", "contrast")
        assert shown[step, "contrast"] == "processors"
        assert shown[step, "choice"] == "update"


def test_halting_at_the_contrast_alone(tmp_path: Path) -> None:
    seen = halted(tmp_path / "run.trace", "contrast", **MODES["sampling"])
    assert [(each.step, each.stop) for each in seen] == [(1, "contrast"), (2, "contrast")]
    for each in seen:
        assert {"final_logits", "candidate_premature_logits", "lm_head"} <= each.local
        assert each.record.head.contrast is None
        assert each.record.scores is None
        assert each.cards[-1:] == ["next-logits"] or each.step == 2
        assert not [check for check in each.record.head.checks if check.result == "failed"]


def test_the_default_stops_are_those_of_every_loop(tmp_path: Path) -> None:
    seen = halted(tmp_path / "run.trace", None, **MODES["sampling"])
    default = plan_stops(None, None, ()).stops
    assert [each.stop for each in seen] == [*default, *default]


def test_a_plain_run_does_not_halt_at_the_contrast(tmp_path: Path) -> None:
    assert halted(tmp_path / "run.trace", "contrast", **SAMPLING) == []


def test_the_stepper_goes_through_the_contrast(tmp_path: Path) -> None:
    session = stepped(
        tmp_path, "n", "p final_logits.shape", "n", "q", stops="contrast,choice", **MODES["greedy"]
    )
    assert halts(session.text)[:4] == ["contrast 1", "choice 1", "choice 1", "contrast 2"]
    before, _, behind = session.text.partition("(contrast 1)")
    assert "candidate layers" not in before
    assert "candidate layers" in behind.partition("(choice 1)")[0]


def test_each_card_comes_once(tmp_path: Path) -> None:
    session = stepped(tmp_path, *["n"] * 120, stops="all", **MODES["sampling"])
    for title in ("next-token logits", "contrast of layers", "softmax", "choice"):
        cards = [line for line in session.text.splitlines() if f" {title} ─" in line]
        assert len(cards) == len(session.steps), title
    assert session.sequences is not None
