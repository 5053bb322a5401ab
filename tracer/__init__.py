"""trace-generate: a step-through tracer for Hugging Face generation.

``trace`` records a generation, ``open_trace`` reads a recording. Reading needs neither torch nor
transformers, so the names are imported when they are first used.
"""

from __future__ import annotations

from tracer.version import __version__

# Importing `typing` takes as long as starting Python does.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
