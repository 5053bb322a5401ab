"""Order a fork at a halt: the run in progress is left, and the fork goes on in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracer.errors import UsageError
from tracer.forking.plan import Fork, check_fork, plan_fork
from tracer.forking.wish import wished_fork
from tracer.halting.live_run import LiveRun
from tracer.halting.run_in_progress import Present, run_in_progress
from tracer.halting.vocabulary import find_token
from tracer.interrupts import LeftRun
from tracer.schema.step import Step


@dataclass(frozen=True)
class Order:
    """A fork that the user has ordered.

    Attributes:
        run: number of the run to branch off.
        fork: what the fork does.
    """

    run: int
    fork: Fork

    @property
    def leaving(self) -> LeftRun:
        """What ends the run."""
        return LeftRun(f"left for a fork at step {self.fork.step}")


class ForkDesk:
    """Keeps the order of a user at a halt until the run has been left.

    Whoever generates gives one to the stop handler, and generates what was ordered. Where the program itself
    has called ``generate()``, nobody can: there is no desk.
    """

    def __init__(self) -> None:
        self.order: Order | None = None

    def take(self) -> Order | None:
        """The order, which is taken off the desk."""
        order, self.order = self.order, None
        return order


def place_order(
    desk: ForkDesk | None, live: LiveRun, present: Step | None, step: int, wanted: Mapping[str, Any]
) -> Order:
    """Check a fork as far as can be said before the run is left, and put it on the desk.

    Args:
        desk: where to put it; None where ``generate()`` was called by the program.
        live: the run in progress.
        present: the step in which it stands, as far as it has come.
        step: the step that is meant where ``wanted`` names none.
        wanted: ``token`` and ``ban``, as ids or texts; ``row``, ``step``, ``seed``, ``max_new_tokens``; and
            generation settings.

    Raises:
        UsageError: it is impossible, with the reason.
    """
    if desk is None:
        raise UsageError(
            "fork: this generate() was called by your program, which waits for its result; when it is over, "
            "recording.fork(step=…) or trace-generate fork goes on from any step."
        )
    fork = wished_fork({"step": step, **wanted}, lambda text: find_token(text, live))
    if fork.step > live.step:
        raise UsageError(f"step {fork.step} has not come yet: the run stands in step {live.step}.")
    with run_in_progress(live, None if present is None else Present(present)) as run:
        # Before its first draw a run may not say from which random state it can be repeated.
        (plan_fork if live.step > 1 else check_fork)(run, fork)
    desk.order = Order(live.number, fork)
    return desk.order
