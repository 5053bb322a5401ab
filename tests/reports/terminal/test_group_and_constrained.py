"""The walkthroughs of a small group beam search and of a small constrained one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from syrupy.assertion import SnapshotAssertion

from tests.reports.terminal.test_beams_and_assisted import printed, steady
from tests.support.checkpoints import tiny_tokenizer
from tests.support.decoding import search
from tests.support.models import batch, tiny_model
from tracer import trace

pytestmark = pytest.mark.reference_only

RUNS = ("groups", "constrained")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    model = tiny_model()
    groups: dict[str, Any] = {
        "num_beams": 4,
        "num_beam_groups": 2,
        "diversity_penalty": 0.1,
        "num_return_sequences": 2,
    }
    with trace(model, tiny_tokenizer(), folder / "groups"):
        search(model, batch(1), **groups, do_sample=False, eos_token_id=[9, 60], max_new_tokens=3)
    words = [[30, 31], [[40], [41, 42]]]
    with trace(model, tiny_tokenizer(), folder / "constrained"):
        search(model, batch(1), num_beams=3, force_words_ids=words, do_sample=False, max_new_tokens=4)
    return {name: folder / name for name in RUNS}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("which", RUNS)
def test_a_run(which: str, width: int, traces: dict[str, Path], snapshot: SnapshotAssertion) -> None:
    assert steady(printed(traces[which], width)) == snapshot


@pytest.mark.parametrize("width", [40, 60, 100, 200])
@pytest.mark.parametrize("which", RUNS)
def test_no_line_is_wider_than_the_terminal(which: str, width: int, traces: dict[str, Path]) -> None:
    text = printed(traces[which], width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not re.search(r" +$", text, re.MULTILINE)
