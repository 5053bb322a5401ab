"""Halting a run and looking at it, with a plain line tracer in the library's own frames."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import GREEDY, SAMPLING, batch, generate, tiny_model
from tests.support.walkthrough import LOOP, passed
from tracer import open_trace, trace
from tracer.halting.live_run import LiveRun
from tracer.schema.columns import NO_TOKEN


class Looking:
    """Notes at each anchor line which cards are new and what the record says."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str, list[str]]] = []
        self.choices: list[tuple[str, list[int]]] = []
        self.ended = 0

    def begin(self, live: LiveRun) -> None:
        assert live.header is not None
        anchors = {(anchor.path, anchor.line): anchor.stop for anchor in live.header.anchors}
        files = {path for path, _ in anchors}

        def lines(frame: FrameType, event: str, _argument: Any) -> Any:
            stop = anchors.get((frame.f_code.co_filename, frame.f_lineno)) if event == "line" else None
            if stop is not None:
                self.look(live, stop, frame.f_locals)
            return lines

        def calls(frame: FrameType, _event: str, _argument: Any) -> Any:
            return lines if frame.f_code.co_filename in files else None

        sys.settrace(calls)

    def between_steps(self) -> None:
        pass

    def look(self, live: LiveRun, stop: str, local: dict[str, Any]) -> None:
        step = live.step_so_far(local)
        if step is not None and step.scores is not None:
            self.choices.append((stop, step.scores.chosen.tolist()))
        self.seen.append((live.step, stop, [card.stop for card in live.cards(local)]))

    def cards_of(self, step: int) -> dict[str, list[str]]:
        """New cards by stop; a statement over several lines begins its first one twice."""
        found: dict[str, list[str]] = {}
        for number, stop, cards in self.seen:
            if number == step:
                found.setdefault(stop, []).extend(cards)
        return found

    def end(self) -> None:
        sys.settrace(None)
        self.ended += 1


@pytest.mark.parametrize("mode", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_cards_appear_as_the_step_goes_on(mode: dict[str, Any], tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(2)
    untraced = generate(model, inputs, **mode)
    looking = Looking()
    with trace(model, tiny_tokenizer(), tmp_path / "run.trace", halt=looking):
        traced = generate(model, inputs, **mode)
    assert torch.equal(traced.sequences, untraced.sequences)
    assert looking.ended == 1

    first = looking.cards_of(1)
    assert first["model-call"] == ["model-call"]
    assert first["forward-result"] == ["layers", "forward-result"]
    assert first["choice"][-1:] in (["softmax"], [])
    assert first["append"] == []
    if passed("update", "choice"):
        assert (first["update"], first["next-logits"]) == ([], ["update", "next-logits"])
        assert first["stopping"] == ["choice", "append"]
    else:
        assert first["next-logits"] == ["next-logits"]
        assert first["update"] == ["choice", "append"]
        assert first["stopping"] == ["update"]
    assert looking.cards_of(2)["model-call"] == ["stopping", "model-call"]
    # Every card of a step comes once, in order.
    shown = [card for number, _, cards in looking.seen if number == 1 for card in cards] + ["stopping"]
    assert shown == list(LOOP.stops[1:])

    before = [chosen for stop, chosen in looking.choices if stop == "choice"]
    after = [chosen for stop, chosen in looking.choices if stop == "stopping"]
    assert all(set(chosen) == {NO_TOKEN} for chosen in before)
    with open_trace(tmp_path / "run.trace") as recording:
        assert after == [[step.choice(row).token for row in range(2)] for step in recording.steps]  # type: ignore[union-attr]


def test_looking_leaves_no_mark_in_the_trace(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(2)
    for name, halt in (("plain", None), ("looked", Looking())):
        with trace(model, tiny_tokenizer(), tmp_path / f"{name}.trace", halt=halt):
            generate(model, inputs, **SAMPLING)
    with open_trace(tmp_path / "plain.trace") as plain, open_trace(tmp_path / "looked.trace") as looked:
        assert len(plain.steps) == len(looked.steps)
        for a, b in zip(plain.steps, looked.steps, strict=True):
            assert a.head.checks == b.head.checks
            assert (a.head.draw, a.head.layout, a.head.stages) == (b.head.draw, b.head.layout, b.head.stages)
            assert a.modules is not None
            assert b.modules is not None
            assert a.scores is not None
            assert b.scores is not None
            assert (a.modules.shapes == b.modules.shapes).all()
            assert a.modules.mean.tobytes() == b.modules.mean.tobytes()
            assert a.scores.scores.tobytes() == b.scores.scores.tobytes()


def test_what_is_raised_between_steps_ends_the_generation(tmp_path: Path) -> None:
    model, inputs, passed = tiny_model(), batch(), 0

    def stop_after_two() -> None:
        nonlocal passed
        passed += 1
        if passed == 2:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        trace(model, path=tmp_path / "run.trace", between_steps=stop_after_two),
    ):
        generate(model, inputs, **GREEDY)
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.end is not None
        assert recording.end.status == "interrupted"
        assert len(recording.steps) == 2
