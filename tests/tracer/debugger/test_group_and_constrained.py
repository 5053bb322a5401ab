"""A debugger halts in the own lines of ``_group_beam_search`` and ``_constrained_beam_search``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tracer.debugger.test_beams_and_assisted import expected, halted
from tracer import open_trace
from tracer.library.loops.constrained_search import CONSTRAINED_SEARCH_4_44
from tracer.library.loops.group_search import GROUP_SEARCH_4_44

pytestmark = pytest.mark.reference_only

GROUPS = ("--gen", "num_beams=4", "--gen", "num_beam_groups=2", "--gen", "diversity_penalty=0.5")


def test_it_halts_at_every_stop_of_a_group_beam_search(tmp_path: Path) -> None:
    evaluated = {
        "choice": "next_token_scores.shape",
        "beams": "beam_group_idx",
        "append": "[*current_tokens.shape]",
        "reorder": "input_ids.shape",
    }
    seen, found, printed = halted(tmp_path, GROUP_SEARCH_4_44, evaluated, *GROUPS, how="--greedy")
    assert seen == expected(GROUP_SEARCH_4_44)
    assert found["choice"] == "torch.Size([1, 200])"
    assert found["beams"] == "0"  # of the groups the first
    assert found["append"] == "[4]"
    assert found["reorder"].startswith("torch.Size([4, ")
    for title in ("scores of the beams", "beams", "reorder the cache"):
        assert len(re.findall(rf"^ *\d+ {title} ─", printed, re.MULTILINE)) == 1
    with open_trace(tmp_path / "run.trace") as recording:
        assert all(step.head.beams is not None for step in recording.steps)


def test_it_halts_at_every_stop_of_a_constrained_beam_search(tmp_path: Path) -> None:
    evaluated = {"choice": "next_token_scores.shape", "append": "[*beam_idx.shape]"}
    settings = ("--gen", "num_beams=3", "--gen", "force_words_ids=[[30,31]]")
    seen, found, printed = halted(tmp_path, CONSTRAINED_SEARCH_4_44, evaluated, *settings, how="--greedy")
    assert seen == expected(CONSTRAINED_SEARCH_4_44)
    assert found["choice"] == "torch.Size([1, 300])"
    assert found["append"] == "[3]"
    assert "constraints after this step" in printed
    with open_trace(tmp_path / "run.trace") as recording:
        assert all(step.head.beams is not None for step in recording.steps)
