"""Generations that take turns of one forward pass, in one thread.

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

from tests.benchmarks.models import Inputs, Subject
from tests.benchmarks.turns import Lane
from tests.benchmarks.watchers import Watcher

_ENDLESS = 1 << 16
"""More tokens than a benchmark comes to."""


@contextmanager
def steps(subject: Subject, watch: Watcher, path: Path, inputs: Inputs) -> Iterator[Lane]:
    """A generation that goes on by one step a turn, from a forward pass to the next one.

    Args:
        subject: the model, which no other lane has.
        watch: how it is watched.
        path: of the trace, if one is made.
        inputs: what ``generate()`` is given.
    """
    settles, callers = [], []

    def generation() -> None:
        with watch(subject.model, path) as settle:
            settles.append(settle)
            subject.generate(inputs, _ENDLESS)

    stack = greenlet(generation)
    stack.gr_context = copy_context()
    state = subject.random_state()

    def turn() -> None:
        nonlocal state
        callers.append(getcurrent())
        subject.set_random_state(state)  # all lanes choose the same tokens
        stack.switch()
        assert not stack.dead
        state = subject.random_state()
        subject.wait()

    def end_turn(*_: Any) -> None:
        callers.pop().switch()

    ends = subject.model.register_forward_pre_hook(end_turn)
    # A lane that ends while others go on would leave them with gradients.
    with torch.no_grad():
        turn()
        turn()  # the prefill
        try:
            yield Lane(turn, *settles)
        finally:
            stack.throw(GreenletExit)  # some loops cannot end early in any other way
            ends.remove()
