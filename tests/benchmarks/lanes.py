"""Generations that take turns, each with a model of its own that shares the weights with the others.

A lane without a trace is therefore a generation that nothing of ours has touched, beside traced ones in the
same process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests.benchmarks.models import Inputs, Subject
from tests.benchmarks.turns import Comparison, Lane, compare
from tests.benchmarks.watchers import Watcher, unwatched


@contextmanager
def runs(subject: Subject, watch: Watcher, path: Path, inputs: Inputs, new: int) -> Iterator[Lane]:
    """A ``generate()`` call of some tokens a turn, all of them in one trace.

    Args:
        subject: the model, which no other lane has.
        watch: how it is watched.
        path: of the trace, if one is made.
        inputs: what ``generate()`` is given.
        new: tokens.
    """

    def turn() -> None:
        subject.generate(inputs, new)
        subject.wait()

    with watch(subject.model, path) as settle:
        yield Lane(turn, settle)


def compare_lanes(
    subject: Subject,
    watchers: Mapping[str, Watcher],
    folder: Path,
    lane: Callable[[Subject, Watcher, Path], AbstractContextManager[Lane]],
    *,
    seconds: float,
) -> list[Comparison]:
    """Compare ways of watching with no watching at all; that is compared with itself first.

    Args:
        subject: the model.
        watchers: the ways.
        folder: for the traces.
        lane: makes the lane of one of them, :func:`runs` or :func:`tests.benchmarks.steps.steps`.
        seconds: time for all turns.
    """
    with ExitStack() as stack:
        lanes = [
            stack.enter_context(lane(subject.sharing_weights(), watch, folder / f"{number}.trace"))
            for number, watch in enumerate([unwatched, unwatched, *watchers.values()])
        ]
        ways = dict(zip(["untraced", *watchers], lanes[1:], strict=True))
        return compare(lanes[0], ways, seconds=seconds)
