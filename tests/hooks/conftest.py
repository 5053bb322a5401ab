"""What the tests of the hooks share."""

from __future__ import annotations

import os

import pytest

from hooks.modules.tape import PlainTape
from hooks.native import compiled


@pytest.fixture(params=["compiled", "plain"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the compiled part and without."""
    way = str(request.param)
    if way == "plain":
        monkeypatch.setattr(compiled, "_native", None)
        monkeypatch.setattr("hooks.modules.module_watch.Tape", PlainTape)
    elif compiled._native is None:
        assert "CI" not in os.environ, "the compiled part is not there"
        pytest.skip("built without a C compiler")
    return way
