"""What the user's program changed in a step: tokens, settings, outputs of modules."""

from __future__ import annotations

from typing import Literal

from tracer.schema.base import Record
from tracer.schema.tensors import TensorInfo


class Intervention(Record):
    """Something the user changed; the run is no longer the model's own.

    Attributes:
        kind: ``force``, ``ban`` or ``set`` while stepping; ``ids`` where a processor wrote into them.
        detail: the token or the changed setting as the user sees it, or which processor it was.
        token: id of the token that was forced or banned; None for others, and in traces of format 1.
        setting: the changed setting, by its name in the generation config or at the processor; None for
            others.
        value: its new value; None for others.
    """

    kind: Literal["force", "ban", "set", "ids"]
    detail: str
    token: int | None = None
    setting: str | None = None
    value: int | float | None = None


class ChangedOutput(Record):
    """An output that a forward hook of the user's replaced or wrote to, as the module itself gave it.

    Attributes:
        module: the module's index.
        before: the first tensor that ``forward`` returned; None where it could not be looked at.
        mean: of its values; None where no statistics were taken.
        std: population standard deviation.
        low: minimum.
        high: maximum.
    """

    module: int
    before: TensorInfo | None = None
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
