"""The Python API: a callback at stops and where conditions hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import GREEDY, SAMPLING, batch, generate, tiny_model
from tracer import open_trace, trace
from tracer.errors import UsageError
from tracer.halting.callback import Halt


@pytest.mark.parametrize("mode", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_the_callback_sees_frame_cards_and_record(mode: dict[str, Any], tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(2)
    untraced = generate(model, inputs, **mode)
    before = sys.gettrace()
    seen: list[tuple[int, str | None, str, list[str], int]] = []

    def on_stop(halt: Halt) -> None:
        record = halt.record
        assert record is not None
        cards: list[str] = [card.stop for card in halt.cards]
        seen.append((halt.step, halt.stop, halt.frame.f_code.co_name, cards, record.number))
        if halt.stop == "choice":
            assert halt.frame.f_locals["next_token_scores"].shape == (2, 100)

    with trace(model, tiny_tokenizer(), tmp_path / "run.trace", on_stop=on_stop):
        traced = generate(model, inputs, **mode)
        assert sys.gettrace() is before
    assert torch.equal(traced.sequences, untraced.sequences)
    warped = ["warpers"] if mode is SAMPLING else []
    stops = ["model-call", "forward-result", *warped, "choice", "update"]
    assert [(step, stop) for step, stop, *_ in seen] == [(step, stop) for step in (1, 2) for stop in stops]
    assert [name for _, stop, name, *_ in seen if stop == "forward-result"] == ["forward"] * 2
    assert all(step == number for step, *_, number in seen)
    shown = [card for step, _, _, cards, _ in seen if step == 1 for card in cards]
    assert shown[:3] == ["model-call", "layers", "forward-result"]


def test_stops_steps_and_conditions_can_be_chosen(tmp_path: Path) -> None:
    model, seen = tiny_model(), list[tuple[int, str | None, int]]()
    with trace(
        model,
        path=tmp_path / "run.trace",
        stops="choice",
        stop_steps=[2],
        breaks="step == 3",
        on_stop=lambda halt: seen.append((halt.step, halt.stop, len(halt.hits))),
    ) as session:
        generate(model, batch(), **GREEDY)
        generate(model, batch(), **GREEDY)
    assert seen == [(2, "choice", 0), (3, None, 1)] * 2
    assert [hit.step for hit in session.hits] == [3, 3]


def test_a_callback_that_fails_does_not_break_the_generation(tmp_path: Path) -> None:
    model = tiny_model()
    untraced = generate(model, batch(), **GREEDY)

    def on_stop(halt: Halt) -> None:
        raise ValueError("boom")

    with (
        pytest.warns(RuntimeWarning, match="on_stop failed at a halt in step 1: ValueError: boom"),
        trace(model, path=tmp_path / "run.trace", stops="choice", stop_steps="1", on_stop=on_stop) as session,
    ):
        traced = generate(model, batch(), **GREEDY)
    assert torch.equal(traced.sequences, untraced.sequences)
    assert session.faults == ("at a halt in step 1: ValueError: boom",)


def test_an_interrupt_in_the_callback_ends_the_run(tmp_path: Path) -> None:
    model = tiny_model()
    before = sys.gettrace()

    def on_stop(halt: Halt) -> None:
        if halt.step == 2:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        trace(model, path=tmp_path / "run.trace", stops="update", on_stop=on_stop),
    ):
        generate(model, batch(), **GREEDY)
    assert sys.gettrace() is before
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.end is not None
        assert recording.end.status == "interrupted"
        assert len(recording.steps) == 1


def test_rows_that_end_in_a_step_had_not_ended_before_it(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(3)
    first = generate(model, inputs, **GREEDY).sequences[:, 6]
    found: list[list[int]] = []

    def on_stop(halt: Halt) -> None:
        assert halt.hits[0].row == 0
        found.append(halt.frame.f_locals["unfinished_sequences"].tolist())

    with trace(
        model,
        path=tmp_path / "run.trace",
        stop_steps="none",
        breaks=[f"token_id == {int(first[0])}"],
        on_stop=on_stop,
    ):
        generate(model, inputs, eos_token_id=int(first[0]), **GREEDY)
    assert found
    assert found[0][0] == 0


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    for options in (
        {"stops": "choice"},
        {"stop_steps": "1"},
        {"stops": "nowhere", "on_stop": print},
        {"stop_steps": "0", "on_stop": print},
        {"on_stop": print, "halt": object()},
    ):
        with pytest.raises(UsageError), trace(tiny_model(), path=tmp_path / "run.trace", **options):
            pass
    assert not (tmp_path / "run.trace").exists()
