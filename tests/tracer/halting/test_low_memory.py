"""Runs with ``low_memory`` that are halted: a stop comes once a step, however many forward passes it has."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.decoding import BEAMS, CONTRASTIVE, contrastive, search
from tests.support.models import batch, tiny_model
from tests.tracer.debugger.test_beams_and_assisted import NO_HALTS, expected
from tests.tracer.debugger.test_beams_and_assisted import halted as in_a_debugger
from tests.tracer.halting.test_beams_and_assisted import Seen, assert_each_card_once, halted, steps_of
from tests.tracer.halting.test_contrastive import dated
from tracer.library.loop import Loop
from tracer.library.loops.beam_search import BEAM_SEARCH_4_44
from tracer.library.loops.contrastive import CONTRASTIVE_4_44

pytestmark = pytest.mark.reference_only

BEAM_LOOP, RANKING_LOOP = (each.with_low_memory(True) for each in (BEAM_SEARCH_4_44, CONTRASTIVE_4_44))


def halts_of(path: Path, generate: Callable[..., Any], rows: int, **how: Any) -> tuple[list[Seen], Any]:
    model, inputs = tiny_model(), batch(rows)
    untraced = generate(model, inputs, **how).sequences
    found = list[torch.Tensor]()
    seen = halted(path, model, lambda: found.append(generate(model, inputs, **how).sequences))
    assert torch.equal(found[0], untraced)
    for each in seen:
        assert not [check for check in each.record.head.checks if check.result == "failed"]
        assert not each.record.head.errors
    return seen, steps_of(path)


def test_every_stop_of_a_beam_search_in_parts(tmp_path: Path) -> None:
    seen, recorded = halts_of(tmp_path / "t", search, 2, **BEAMS["sampling"], low_memory=True)
    order = [stop for stop in BEAM_LOOP.stops if stop not in NO_HALTS]
    assert [(each.step, each.stop) for each in seen] == [(step, stop) for step in (1, 2) for stop in order]
    assert_each_card_once(seen)
    for each in seen:
        if order.index(each.stop) > order.index("forward-result"):
            assert each.record.head.forward == recorded[each.step - 1].head.forward
        if each.stop == "forward-result":  # in the last of the passes
            assert each.local["logits"].shape[0] == 2
            assert each.record.head.forward is not None
            assert each.record.head.forward.logits.shape[0] == 6


def test_every_stop_of_a_contrastive_search_in_turn(tmp_path: Path) -> None:
    seen, recorded = halts_of(tmp_path / "t", contrastive, 1, **CONTRASTIVE["processed"], low_memory=True)
    order = [stop for stop in RANKING_LOOP.stops if stop not in NO_HALTS]
    later = [stop for stop in order if stop not in ("prefill", "next-logits")]
    places = [(each.step, each.stop) for each in seen]
    assert places == [(1, stop) for stop in order] + [(2, stop) for stop in later]
    cards = [found for each in seen for found in dated(each)]
    assert len(cards) == len(set(cards))
    for each in seen:
        if order.index(each.stop) >= order.index("forward-result"):
            assert each.record.head.forward is not None
            assert each.record.head.forward.logits.shape == (5, 1, 100)
        if each.stop == "select":
            assert each.local["selected_idx"].tolist() == [
                row.taken for row in recorded[each.step - 1].head.contrastive.rows
            ]


@pytest.mark.parametrize(
    ("loop", "settings", "said"),
    [
        (
            BEAM_LOOP,
            ("--sample", "--gen", "num_beams=3"),
            "reads the rows in 3 parts, 1 row in a forward pass",
        ),
        (
            RANKING_LOOP,
            ("--greedy", "--gen", "penalty_alpha=0.6", "--gen", "top_k=4"),
            "one candidate after the other",
        ),
    ],
    ids=["beams", "contrastive"],
)
def test_a_debugger_halts_in_its_lines(
    loop: Loop, settings: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    how, *others = settings
    seen, _, printed = in_a_debugger(tmp_path, loop, {}, *others, "--gen", "low_memory=true", how=how)
    left_out = () if loop is BEAM_LOOP else ("prefill", "next-logits")
    assert seen == expected(loop, *left_out)
    assert said in re.sub(r"\s+", " ", printed)
