"""Groups and constraints of a beam search come back as they were, and impossible ones are damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.decoding import CONSTRAINED, GROUPS, search
from tests.support.models import batch, tiny_model
from tests.tracer.tracefile.test_limits import edit_heads
from tracer import open_trace, trace
from tracer.errors import TraceFileError
from tracer.tracefile import check_file

pytestmark = pytest.mark.reference_only

Json = dict[str, Any]


@pytest.fixture
def recorded(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    model = tiny_model()
    with trace(model, path=tmp_path / "t"):
        search(model, batch(), **request.param, max_new_tokens=2)
    assert check_file(tmp_path / "t").whole
    return tmp_path / "t"


def damaged(path: Path, edit: Callable[[Json], Any]) -> None:
    edit_heads(path, lambda head: edit(head["beams"]))
    with open_trace(path) as recording, pytest.raises(TraceFileError):
        _ = recording.steps[0].head


def first(beams: Json) -> Json:
    found: Json = beams["rows"][0]["continuations"][0]
    return found


@pytest.mark.parametrize("recorded", [GROUPS["two"]], indirect=True)
@pytest.mark.parametrize(
    "edit",
    [
        lambda beams: beams.update(groups=3),
        lambda beams: beams.update(groups=0),
        lambda beams: first(beams).update(taken_by=[4]),
        lambda beams: first(beams).update(taken_by=[-1]),
        lambda beams: first(beams).update(penalty="much"),
    ],
)
def test_impossible_groups_are_damage(recorded: Path, edit: Callable[[Json], Any]) -> None:
    damaged(recorded, edit)


@pytest.mark.parametrize("recorded", [CONSTRAINED["phrase"]], indirect=True)
@pytest.mark.parametrize(
    "edit",
    [
        lambda beams: first(beams).update(bank=-1),
        lambda beams: beams["constraints"]["advancing"].pop(),
        lambda beams: beams["constraints"]["progress"].pop(),
        lambda beams: beams["constraints"]["progress"][0].append(beams["constraints"]["progress"][0][0]),
        lambda beams: beams["constraints"]["progress"][0][0].update(constraint=1),
        lambda beams: beams["constraints"]["progress"][0][0].update(status="nearly"),
        lambda beams: beams["constraints"]["progress"][0][0].update(so_far=[-3]),
        lambda beams: beams["constraints"]["constraints"][0].update(words=[[1 << 40]]),
    ],
)
def test_impossible_constraints_are_damage(recorded: Path, edit: Callable[[Json], Any]) -> None:
    damaged(recorded, edit)
