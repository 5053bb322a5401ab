"""Import what defines hundreds of thousands of objects, in less time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """A context for imports, in which Python does not search for garbage.

    It would go through all that is there again and again, for a sixth of the seconds that it takes to import
    torch and transformers. What is imported stays anyway.
    """
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searched:
            gc.enable()
