"""The table of releases, and the loops that it describes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.tracer.tracefile.samples import header
from tracer.library import release
from tracer.library.release import REFERENCE, RELEASES, release_of
from tracer.schema.run import STOPS, RunHeader

pytestmark = pytest.mark.no_transformers


def test_each_release_is_of_one_family() -> None:
    versions = [version for family in RELEASES for version in family.versions]
    assert len(versions) == len({*versions})
    assert release_of(REFERENCE) is RELEASES[0]
    assert release_of("4.43.0") is None


@pytest.mark.parametrize("family", RELEASES, ids=lambda family: family.name)
def test_a_loop_has_every_stop_once_and_warpers_only_in_a_list_of_their_own(family: release.Release) -> None:
    stops = family.sample.stops
    assert len(stops) == len({*stops})
    assert {*STOPS} - {*stops} == (set() if family is RELEASES[0] else {"warpers"})
    assert stops.index("layers") == stops.index("forward-result") - 1
    # The walkthrough's order in 4.44, and the arguments right behind the forward pass since 4.45.
    assert (stops.index("update") < stops.index("next-logits")) == (family is not RELEASES[0])
    assert RELEASES[0].sample.stops == STOPS


@given(st.lists(st.sampled_from(STOPS), max_size=14))
def test_a_header_takes_no_other_stops_than_those_of_a_loop(stops: list[str]) -> None:
    record = {**header(1).model_dump(), "stops": stops}
    if stops[:1] == ["run-header"] and len({*stops}) == len(stops) >= len(STOPS) - ("warpers" not in stops):
        assert RunHeader.model_validate(record).stops == tuple(stops)
    else:
        with pytest.raises(ValidationError):
            RunHeader.model_validate(record)
