"""Parameters that only add breadth to a test, and are run with ``--slow``."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any) -> list[Any]:
    """Parameters that are left out by default.

    Args:
        values: a value each, or a tuple for a test of several arguments.
    """
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
        for value in values
    ]


VIEWPORTS = [(400, "dark"), *slow((400, "light"), (1600, "dark"), (1600, "light"))]
"""Width of a page in pixels, and its color scheme."""
