"""Two runs compared: where they diverge, and why."""

from tracer.analysis.diff.walk import diff

__all__ = ["diff"]
