"""What the tests of the hooks share."""

from __future__ import annotations

import os

import pytest

from hooks.modules import tape
from hooks.modules.tape import PlainTape, PlainWatched, _plain_tapes
from hooks.native import compiled
from hooks.native.compiled import TapeParts
from tracer.library.release import REFERENCE, installed_release

collect_ignore = (
    []
    if REFERENCE in installed_release().versions
    else ["kv_cache/test_layouts.py", "decoding/test_beam_search.py"]
)
"""Files that are about classes which the reference release alone has."""


@pytest.fixture(params=["compiled", "plain"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the compiled part and without."""
    way = str(request.param)
    if way == "plain":
        monkeypatch.setattr(compiled, "_native", None)
        monkeypatch.setattr(tape, "parts", TapeParts(PlainTape, PlainWatched, _plain_tapes))
    elif compiled._native is None:
        assert "CI" not in os.environ, "the compiled part is not there"
        pytest.skip("built without a C compiler")
    return way
