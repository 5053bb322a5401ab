"""trace-generate: a step-through tracer for Hugging Face generation.

``trace`` records a generation, ``open_trace`` reads a recording. Reading needs neither torch nor
transformers, so the names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tracer.version import __version__

if TYPE_CHECKING:
    from tracer.reading import Recording, open_trace
    from tracer.session import TraceSession, trace

_HOMES = {
    "Recording": "tracer.reading",
    "TraceSession": "tracer.session",
    "open_trace": "tracer.reading",
    "trace": "tracer.session",
}

__all__ = ["Recording", "TraceSession", "__version__", "open_trace", "trace"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
