"""Tests that need something from outside: skip where it lacks, fail in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tracer.errors import ModelLoadError
from tracer.loading.demo_model import ensure_demo_model


def missing(reason: str) -> None:
    """Skip the test, or fail it in CI, where everything has to be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def demo_checkpoint() -> Path:
    """The folder of the demo model."""
    try:
        return ensure_demo_model()
    except ModelLoadError as error:
        missing(str(error))
        raise
