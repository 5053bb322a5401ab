"""The ranking of a contrastive search comes back as it was, and an impossible one is damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import tiny_tokenizer
from tests.support.decoding import CONTRASTIVE, contrastive
from tests.support.models import VOCAB, batch, tiny_model
from tests.tracer.tracefile.test_limits import edit_heads
from tracer import trace
from tracer.errors import TraceFileError
from tracer.tracefile import TraceFile, check_file

pytestmark = pytest.mark.reference_only
Json = dict[str, Any]


def written(path: Path) -> Path:
    model = tiny_model()
    with trace(model, tiny_tokenizer(), path):
        contrastive(model, batch(2), **CONTRASTIVE["plain"], max_new_tokens=1)
    return path


def of(head: Json) -> Json:
    candidate: Json = head["contrastive"]["rows"][0]["candidates"][1]
    return candidate


@pytest.mark.parametrize(
    "change",
    [
        lambda head: head["contrastive"]["rows"].pop(),
        lambda head: head["contrastive"]["rows"][0].update(taken=4),
        lambda head: head["contrastive"]["rows"][0].update(taken=-1),
        lambda head: head["contrastive"]["rows"][0].update(candidates=[]),
        lambda head: of(head).update(token=-1),
        lambda head: of(head).update(token=VOCAB),
        lambda head: of(head).update(position=-1),
        lambda head: of(head).update(position=7),
        lambda head: of(head).update(similar=1 << 40),
        lambda head: head["contrastive"]["repeated"].update(length=-1),
        lambda head: head["contrastive"].update(grown=None),
        lambda head: head["prompt_pass"].update(calls=-1),
        lambda head: head["prompt_pass"].update(seconds=-1.0),
        lambda head: head["prompt_pass"]["inputs"].update(new_start=99),
        lambda head: head["prompt_pass"]["cache"].update(length=1 << 40),
    ],
)
def test_an_impossible_one_is_refused(change: Callable[[Json], None], tmp_path: Path) -> None:
    path = written(tmp_path / "run.trace")
    edit_heads(path, change)
    assert not check_file(path).ok
    with TraceFile(path) as recording, pytest.raises(TraceFileError) as refused:
        _ = recording.steps[0]
    assert "\n" not in str(refused.value)


def test_a_score_that_is_no_number_comes_back(tmp_path: Path) -> None:
    """A model that returns NaN has penalties of that kind."""
    path = written(tmp_path / "run.trace")
    edit_heads(path, lambda head: of(head).update(penalty="NaN", score="NaN"))
    with TraceFile(path) as recording:
        found = recording.steps[0].head.contrastive
    assert found is not None
    assert found.rows[0] is not None
    assert found.rows[0].candidates[1].penalty != found.rows[0].candidates[1].penalty
