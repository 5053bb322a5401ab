"""Where the model of a recorded run is now."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSource:
    """Where the model of a recorded run is now; by default where the trace says.

    Attributes:
        model: folder or hub id; None for the one in the trace.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: whether code that comes with the model may run.
    """

    model: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False

    @property
    def given(self) -> bool:
        """Whether anything but the defaults is asked for."""
        return self != ModelSource()
