"""Torch and transformers to repeat processors and draws, where that adds to an answer and only there."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from tracer.analysis.runs import LOGITS, RecordedRun

if TYPE_CHECKING:
    from tracer.analysis.draw import Replayer


def make_replayer(*, wanted: bool) -> Replayer | None:
    """Torch and transformers to repeat processors and draws; None where they are not wanted or absent.

    Args:
        wanted: whether the answer gains by it. Importing torch takes seconds.
    """
    if not wanted or find_spec("torch") is None:
        return None
    from hooks.scores.replay import TorchReplayer

    return TorchReplayer()


def gains_by_torch(run: RecordedRun) -> bool:
    """Whether draws can be repeated, or saved logits be run through transformers' own processors.

    Args:
        run: the run.
    """
    steps = run.steps
    if not len(steps):
        return False
    first = steps[0]
    return first.head.draw is not None or LOGITS in run.tensor_names(first.number)
