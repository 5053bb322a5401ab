"""Generations that take turns of one step, in one thread.

Each is on a stack and in a context of its own: several threads would each have a pool of torch's threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from transformers import StoppingCriteria

from tests.benchmarks.models import Inputs, Subject
from tests.benchmarks.turns import Lane
from tests.benchmarks.watchers import Watcher

_ENDLESS = 1 << 16
"""More tokens than a benchmark comes to."""


class _Steps(StoppingCriteria):  # type: ignore[misc]
    """Ends a turn after each step."""

    caller: greenlet

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.caller.switch()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@contextmanager
def steps(subject: Subject, watch: Watcher, path: Path, inputs: Inputs) -> Iterator[Lane]:
    """A generation that goes on by one decode step a turn.

    Args:
        subject: the model, which no other lane has.
        watch: how it is watched.
        path: of the trace, if one is made.
        inputs: what ``generate()`` is given.
    """
    ends, settles = _Steps(), []

    def generation() -> None:
        with watch(subject.model, path) as settle:
            settles.append(settle)
            subject.generate(inputs, _ENDLESS, stopping_criteria=[ends])

    stack = greenlet(generation)
    stack.gr_context = copy_context()
    state = subject.random_state()

    def turn() -> None:
        nonlocal state
        ends.caller = getcurrent()
        subject.set_random_state(state)  # all lanes choose the same tokens
        stack.switch()
        assert not stack.dead
        state = subject.random_state()
        subject.wait()

    # A lane that ends while others go on would leave them with gradients.
    with torch.no_grad():
        turn()  # the prefill
        try:
            yield Lane(turn, *settles)
        finally:
            stack.throw(GreenletExit)  # some loops cannot end early in any other way
