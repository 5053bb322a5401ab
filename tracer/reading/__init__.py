"""The Python API for reading: what ``tracer.open_trace`` returns, and how it answers questions."""

from tracer.reading.recording import Recording, open_trace

__all__ = ["Recording", "open_trace"]
