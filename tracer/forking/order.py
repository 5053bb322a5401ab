"""Order a fork at a halt: the run in progress is left, and the fork goes on in its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tracer.errors import UsageError
from tracer.forking.plan import Fork, check_fork, plan_fork
from tracer.halting.live_run import LiveRun
from tracer.halting.run_in_progress import Present, run_in_progress
from tracer.halting.vocabulary import find_token
from tracer.interrupts import LeftRun
from tracer.schema.step import Step

_WHOLE = ("row", "step", "seed", "max_new_tokens")
"""What must be a whole number, by its name in :class:`~tracer.forking.plan.Fork`."""

_LARGEST = {"seed": 2**64 - 1}


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
    fork = _fork(live, {"step": step, **wanted})
    if fork.step > live.step:
        raise UsageError(f"step {fork.step} has not come yet: the run stands in step {live.step}.")
    with run_in_progress(live, None if present is None else Present(present)) as run:
        # Before its first draw a run may not say from which random state it can be repeated.
        (plan_fork if live.step > 1 else check_fork)(run, fork)
    desk.order = Order(live.number, fork)
    return desk.order


def _fork(live: LiveRun, wanted: Mapping[str, Any]) -> Fork:
    numbers = {name: _whole(name, wanted[name]) for name in _WHOLE if wanted.get(name) is not None}
    token, ban = wanted.get("token"), wanted.get("ban")
    banned: Iterable[Any] = () if ban is None else [ban] if isinstance(ban, str | int) else ban
    return Fork(
        **numbers,
        token=None if token is None else _token(live, token),
        banned=tuple(_token(live, each) for each in banned),
        settings={name: value for name, value in wanted.items() if name not in (*_WHOLE, "token", "ban")},
    )


def _token(live: LiveRun, token: object) -> int:
    return token if isinstance(token, int) and not isinstance(token, bool) else find_token(str(token), live)


def _whole(name: str, value: object) -> int:
    most = _LARGEST.get(name, 2**31 - 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise UsageError(f"fork {name}={str(value)[:40]}: it must be a whole number from 0 to {most}.")
    return value
