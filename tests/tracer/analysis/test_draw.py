"""The very draw is repeated, and its near misses are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings

from hooks.scores.replay import TorchReplayer
from tests.support.models import SAMPLING, batch
from tests.tracer.analysis.library import Case, cases, transformers_stages, usual
from tests.tracer.analysis.records import recorded
from tests.tracer.analysis.runs import MemoryRun, real_run
from tracer.analysis.draw import DrawStates, final_scores, near_misses, state_digest
from tracer.analysis.runs import saved_logits
from tracer.errors import UnsupportedError, UsageError

REPLAYER = TorchReplayer()


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(cases(usual()))
def test_a_repeated_draw_is_torch_multinomial(case: Case) -> None:
    assume(case.logits.max() > -np.inf)
    for save in (True, False):
        run = recorded(case, save=save)
        try:
            found = near_misses(run, 1, REPLAYER, count=3)
        except UsageError:
            assert not save
            assert run.steps[0].scores is not None
            assert run.steps[0].scores.kept[-1, 0] > 64
            continue
        assert found.reproduced
        assert found.places[0].token == found.chosen
        chances = torch.softmax(
            torch.from_numpy(transformers_stages(case)[-1] if case.placed else case.logits), -1
        )
        for miss in found.places:
            assert miss.probability == pytest.approx(float(chances[miss.token]), rel=1e-5, abs=1e-37)
        behind = [miss.behind for miss in found.places]
        assert behind[0] == 1
        assert behind == sorted(behind)


@pytest.fixture(scope="module")
def run() -> MemoryRun:
    return real_run(inputs=batch(3), seed=5, max_new_tokens=100, **{**SAMPLING, "eos_token_id": []})


def test_every_draw_of_a_real_run(run: MemoryRun) -> None:
    assert len(run.steps) == 100
    states = DrawStates(run, REPLAYER)
    for step in run.steps:
        for row in range(3):
            found = near_misses(run, step.number, REPLAYER, row=row, states=states)
            assert found.reproduced
            assert found.places[0].token == found.chosen


def test_a_step_alone_and_backwards(run: MemoryRun) -> None:
    states = DrawStates(run, REPLAYER)
    digests = [state_digest(states.before(number)) for number in (90, 3, 3, 64, 65, 66)]
    assert digests == [run.steps[number - 1].head.draw.digest for number in (90, 3, 3, 64, 65, 66)]  # type: ignore[union-attr]


def test_without_logits_the_record_suffices_while_it_holds_all_candidates(run: MemoryRun) -> None:
    bare = run.without()
    for step in run.steps[:20]:
        np.testing.assert_array_equal(final_scores(bare, step), final_scores(run, step, REPLAYER))


def test_more_candidates_than_recorded() -> None:
    run = real_run(do_sample=True, top_k=0, candidates=4, seed=2)
    assert near_misses(run, 2, REPLAYER).reproduced
    with pytest.raises(UsageError, match="--save logits"):
        near_misses(run.without(), 2, REPLAYER)
    with pytest.raises(UsageError, match="--save logits"):
        final_scores(run, run.steps[0])


def test_what_has_no_draw(run: MemoryRun) -> None:
    with pytest.raises(UsageError, match="no draw"):
        near_misses(real_run(do_sample=False), 1, REPLAYER)
    with pytest.raises(UsageError, match="row 3"):
        near_misses(run, 1, REPLAYER, row=3)
    with pytest.raises(UsageError, match="step 101"):
        near_misses(run, 101, REPLAYER)
    first = run.steps[0]
    assert first.head.draw is not None
    stateless = first.head.model_copy(update={"draw": first.head.draw.model_copy(update={"state": None})})
    with pytest.raises(UsageError, match="not recorded"):
        near_misses(replace(run, steps=[replace(first, head=stateless)]), 1, REPLAYER)


def test_another_generator_is_noticed(run: MemoryRun) -> None:
    second = run.steps[1]
    assert second.head.draw is not None
    other = second.head.model_copy(update={"draw": second.head.draw.model_copy(update={"digest": "00"})})
    steps = [run.steps[0], replace(second, head=other)]
    with pytest.raises(UnsupportedError, match="cannot be reached"):
        near_misses(replace(run, steps=steps), 2, REPLAYER)


def test_the_process_keeps_its_own_random_state(run: MemoryRun) -> None:
    before = torch.get_rng_state()
    near_misses(run, 30, REPLAYER)
    assert torch.equal(torch.get_rng_state(), before)


def test_devices_and_dtypes_that_are_not_there() -> None:
    scores = np.zeros((1, 4), dtype=np.float32)
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedError, match="cuda:1"):
            REPLAYER.draw(b"", scores, device="cuda:1", dtype="float32", places=1)
    with pytest.raises(UnsupportedError, match="float8"):
        REPLAYER.draw(b"", scores, device="cpu", dtype="float8_e5m2", places=1)
    with pytest.raises(UnsupportedError, match="does not fit"):
        REPLAYER.draw(b"12", scores, device="cpu", dtype="float32", places=1)
    with pytest.raises(UnsupportedError, match="not finite"):
        REPLAYER.draw(b"12", scores - np.inf, device="cpu", dtype="float32", places=1)


@pytest.mark.parametrize("bad", [np.zeros(()), np.zeros((1, 7)), np.zeros((3, 100), dtype=np.int64)])
def test_logits_that_are_none(run: MemoryRun, bad: Any) -> None:
    saved = {number: {**tensors, "logits": bad} for number, tensors in run.saved.items()}
    with pytest.raises(UsageError, match="saved logits of step 1 have shape"):
        saved_logits(MemoryRun(run.header, run.steps, run.tokens, run.end, saved), 1)
