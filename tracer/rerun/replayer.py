"""Replaying processors and draws with torch and transformers, only where an answer benefits from it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from tracer.analysis.runs import LOGITS, RecordedRun

if TYPE_CHECKING:
    from tracer.analysis.draw import Replayer


def make_replayer(*, wanted: bool) -> Replayer | None:
    """A replayer of processors and draws by torch and transformers; None if not wanted or not installed.

    Args:
        wanted: whether the answer benefits from it. Importing torch takes seconds.
    """
    if not wanted or find_spec("torch") is None:
        return None
    import tracer.own_packages  # noqa: F401 - says which file is in the way
    from hooks.scores.replay import TorchReplayer

    return TorchReplayer()


def benefits_from_torch(run: RecordedRun) -> bool:
    """Whether draws can be replayed, or saved logits be run through transformers' own processors.

    Args:
        run: the run.
    """
    steps = run.steps
    if not len(steps):
        return False
    first = steps[0]
    return first.head.draw is not None or LOGITS in run.tensor_names(first.number)
