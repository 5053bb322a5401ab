"""The model's class while a trace is open, where generate() looks its loop up there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from hooks.loop.class_loops import ClassLoops
from tests.releases.architectures import architecture
from tests.support.models import GREEDY, batch, collected, generate
from tracer import open_trace, trace
from tracer.library.release import installed_release

on_class = pytest.mark.skipif(
    not installed_release().on_class, reason="this release looks the loop up on the instance"
)


def test_the_class_is_the_programs_own_in_the_loop_and_after_the_block() -> None:
    model = architecture("qwen2")
    kind, seen = type(model), list[type]()

    def look(_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(type(model))
        return scores

    with collected(model) as run:
        generate(model, batch(), **GREEDY, logits_processor=[look])
        assert model.__class__ is kind
        assert isinstance(model, kind)
    assert seen == [kind] * 6
    assert type(model) is kind
    assert len(run.steps) == 6


@on_class
def test_a_call_of_the_class_is_traced_too() -> None:
    model = architecture("qwen2")
    with collected(model) as run:
        type(model).generate(model, **batch(), **GREEDY, max_new_tokens=3, pad_token_id=0)
    assert len(run.steps) == 3


@on_class
def test_another_instance_of_the_class_is_left_alone() -> None:
    model, other = architecture("qwen2"), architecture("qwen2")
    with collected(model) as run:
        generate(other, batch(), **GREEDY)
    assert run.headers == []


def test_several_threads_find_their_loops(tmp_path: Path) -> None:
    model, path = architecture("qwen2"), tmp_path / "run.trace"
    expected = generate(model, batch(), **GREEDY).sequences
    found: list[Any] = []
    with trace(model, path=path):
        threads = [
            threading.Thread(target=lambda: found.append(generate(model, batch(), **GREEDY).sequences))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(torch.equal(each, expected) for each in found)
    with open_trace(path) as recording:
        assert len(recording.runs) == len(found) == 6


@on_class
def test_an_interrupted_beginning_leaves_later_loops_with_the_programs_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = architecture("qwen2")
    kind, seen = type(model), list[type]()

    def look(_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(type(model))
        return scores

    with collected(model) as run:
        with monkeypatch.context() as patch:
            patch.setattr(ClassLoops, "show", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                generate(model, batch(), **GREEDY)
        generate(model, batch(), **GREEDY, logits_processor=[look])
    assert seen == [kind] * 6
    assert len(run.steps) == 6


def _interrupt(_: object) -> None:
    raise KeyboardInterrupt
