"""Find the parts that are compiled, where they are.

They are compiled from C when the package is built, if there is a compiler. Everything they do is done
without them too, only slower.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

PLAIN = "TRACE_GENERATE_PLAIN"
"""Set this variable to do without."""


def load(name: str) -> Any:
    """Load a compiled module.

    Args:
        name: its full name.

    Returns:
        The module; None where it is not there, cannot be used or is not wanted.
    """
    if os.environ.get(PLAIN):
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
