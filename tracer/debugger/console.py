"""What the debug console knows beside the variables of the halted frame."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tracer.errors import TraceGenerateError
from tracer.forking.order import ForkDesk, place_order
from tracer.halting.live_run import LiveRun

_NAME = "fork"


@dataclass(frozen=True, repr=False)
class Said:
    """A line that a console shows as it is, of any length and without quotes.

    Attributes:
        text: the line.
    """

    text: str

    def __repr__(self) -> str:
        return self.text


class DebugConsole:
    """The functions of the debug console, while the generating thread halts.

    Args:
        live: the run in progress.
        desk: where a fork is ordered; None where the program itself has called ``generate()``.
    """

    def __init__(self, live: LiveRun, desk: ForkDesk | None) -> None:
        self._live = live
        self._desk = desk

    def fork(
        self,
        step: int | None = None,
        token: int | str | None = None,
        *,
        row: int = 0,
        ban: int | str | Iterable[int | str] = (),
        seed: int | None = None,
        max_new_tokens: int | None = None,
        **settings: Any,
    ) -> Said:
        """Go on another way from a step of this run, by default the one in progress.

        The run is left when its step is over, and the fork halts as the run did.

        Args:
            step: the first step that is the fork's own.
            token: the token to choose there, by its id or text; by default it chooses.
            row: row of the batch whose choice is changed.
            ban: tokens that it may not choose there.
            seed: of the draws from there on.
            max_new_tokens: tokens from there on.
            settings: other generation settings from there on.
        """
        live = self._live
        wanted = {"token": token, "row": row, "ban": ban, "seed": seed, "max_new_tokens": max_new_tokens}
        try:
            order = place_order(
                self._desk,
                live,
                live.step_so_far(),
                live.step if step is None else step,
                {**wanted, **settings},
            )
        except TraceGenerateError as error:
            return Said(f"✗ {error}")
        return Said(
            f"Continue: run {order.run} is left behind step {live.step}, and a fork at step "
            f"{order.fork.step} goes on."
        )

    @contextmanager
    def open(self) -> Iterator[None]:
        """A context in which expressions in any frame find the functions."""
        # A name that the program has, its own or its module's, comes before these.
        if hasattr(builtins, _NAME):
            yield
            return
        setattr(builtins, _NAME, self.fork)
        try:
            yield
        finally:
            delattr(builtins, _NAME)
