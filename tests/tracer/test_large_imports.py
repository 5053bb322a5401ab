"""Nothing is searched for garbage while much is imported, and everything afterwards as before."""

from __future__ import annotations

import gc

import pytest

from tracer.large_imports import large_imports

pytestmark = pytest.mark.no_transformers


@pytest.mark.parametrize("searched", [True, False])
def test_the_search_goes_on_as_it_was(searched: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if searched else gc.disable)()
        with large_imports():
            assert not gc.isenabled()
        assert gc.isenabled() == searched
        with pytest.raises(ImportError), large_imports():
            raise ImportError
        assert gc.isenabled() == searched
    finally:
        (gc.enable if before else gc.disable)()
