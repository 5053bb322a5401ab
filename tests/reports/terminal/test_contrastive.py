"""The walkthrough of a small contrastive search."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from syrupy.assertion import SnapshotAssertion

from tests.reports.records import scrubbed
from tests.reports.terminal.test_beams_and_assisted import printed
from tests.support.checkpoints import tiny_tokenizer
from tests.support.decoding import contrastive
from tests.support.models import batch, tiny_model
from tracer import trace

pytestmark = pytest.mark.reference_only


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Row 1 ends before row 0 does."""
    found, model = tmp_path_factory.mktemp("runs") / "contrastive", tiny_model()
    with trace(model, tiny_tokenizer(), found):
        contrastive(
            model,
            batch(2),
            penalty_alpha=0.6,
            top_k=3,
            repetition_penalty=1.1,
            eos_token_id=[60, 84],
            max_new_tokens=3,
        )
    return found


@pytest.mark.parametrize("width", [80, 120])
def test_a_run(width: int, path: Path, snapshot: SnapshotAssertion) -> None:
    text = printed(path, width)
    assert scrubbed(text[text.index(" prefill ─") :]) == snapshot


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int, path: Path) -> None:
    text = printed(path, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not re.search(r" +$", text, re.MULTILINE)
