"""What was wrong with the checkpoint that a model was loaded from, until its run is recorded."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from tracer.schema.run import CheckpointFaults

_faults: WeakKeyDictionary[object, CheckpointFaults] = WeakKeyDictionary()
"""By model; the library itself keeps nothing of it."""


def remember_faults(model: object, faults: CheckpointFaults) -> None:
    """Remember what was wrong; nothing for a sound checkpoint.

    Args:
        model: the model.
        faults: what was wrong with its checkpoint.
    """
    if faults != CheckpointFaults():
        _faults[model] = faults


def faults_of(model: object) -> CheckpointFaults | None:
    """What was wrong with a model's checkpoint; None if nothing is known to have been.

    Args:
        model: the model.
    """
    return _faults.get(model)
