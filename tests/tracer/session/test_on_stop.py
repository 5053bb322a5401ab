"""The Python API: a callback at stops and where conditions hold."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import GREEDY, SAMPLING, batch, generate, tiny_model
from tests.support.walkthrough import ONLY_SAMPLING, WALKTHROUGH
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
    stops = [stop for stop in WALKTHROUGH if mode is SAMPLING or stop not in ONLY_SAMPLING]
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


def test_two_runs_at_once_are_both_halted(tmp_path: Path) -> None:
    model, together = tiny_model(), threading.Barrier(2)
    seen: dict[int, list[tuple[int, int]]] = {}

    def look(halt: Halt) -> None:
        found = seen.setdefault(threading.get_ident(), [])
        if not found:
            together.wait(20)  # both runs are in progress
        assert halt.record is not None
        assert halt.cards
        found.append((halt.live.number, halt.step))

    def work(length: int) -> None:
        found = model.generate(**batch(length=length), **GREEDY, max_new_tokens=5)
        lengths[threading.get_ident()] = found.shape[1]

    lengths: dict[int, int] = {}
    with trace(model, path=tmp_path / "run.trace", stops="choice", stop_steps="all", on_stop=look) as session:
        threads = [threading.Thread(target=work, args=(length,)) for length in (5, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert session.faults == ()
    assert len(seen) == 2
    numbers = {halts[0][0] for halts in seen.values()}
    assert numbers == {1, 2}
    with open_trace(session.path) as recording:
        for ident, halts in seen.items():
            run = recording.runs[halts[0][0] - 1]
            assert run.end is not None
            assert len(run.end.sequences[0]) == lengths[ident]
            assert halts == [(halts[0][0], step) for step in range(1, len(run.steps) + 1)]
    assert sys.gettrace() is None


def test_a_run_beside_a_halted_one_that_cannot_be_halted_too_is_named(tmp_path: Path) -> None:
    class Waiting:
        """A stop handler of one run at a time."""

        def begin(self, live: Any) -> None:
            begun.set()
            assert other_is_over.wait(20)

        def between_steps(self) -> None:
            pass

        def end(self) -> None:
            pass

    model, begun, other_is_over = tiny_model(), threading.Event(), threading.Event()

    def in_a_block() -> None:
        with trace(model, path=tmp_path / "run.trace", halt=Waiting()) as session:
            first = threading.Thread(target=lambda: model.generate(**batch(), **GREEDY, max_new_tokens=5))
            first.start()
            assert begun.wait(20)
            model.generate(**batch(), **GREEDY, max_new_tokens=5)
            other_is_over.set()
            first.join()
        assert session.faults == ()

    with pytest.warns(RuntimeWarning, match="beside another one was recorded, but not halted"):
        in_a_block()
    with open_trace(tmp_path / "run.trace") as recording:
        assert len(recording.runs) == 2
