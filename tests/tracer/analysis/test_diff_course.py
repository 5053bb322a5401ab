"""Two compared runs step by step, and their modules where the difference begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.models import GREEDY, SAMPLING, batch, tiny_model
from tests.support.synthetic import synthetic_end
from tests.tracer.analysis.runs import MemoryRun, real_run
from tests.tracer.analysis.test_diff import attention, synthetic_run
from tracer.analysis.diff import diff
from tracer.analysis.diff.course import Course, courses
from tracer.analysis.diff.modules import ModuleStep, module_steps
from tracer.analysis.processors.softmax import softmax
from tracer.schema.step import Step


def compared(a: MemoryRun, b: MemoryRun) -> tuple[tuple[Course, ...], tuple[ModuleStep, ...]]:
    report = diff(a, b)
    return courses(a, b, report), module_steps(a, b, report)


def cut(run: MemoryRun, steps: int) -> MemoryRun:
    return replace(run, steps=run.steps[:steps], end=synthetic_end(run.header, steps))


def test_the_same_run_has_no_difference() -> None:
    run = synthetic_run(rows=2)
    found, modules = compared(run, run)
    assert [(course.rows.a, course.parted, len(course.steps)) for course in found] == [
        (0, None, 4),
        (1, None, 4),
    ]
    assert modules == ()
    for step in found[1].steps:
        assert step.shared
        assert step.a == step.b
        assert step.a is not None
        assert step.a.elsewhere == step.a.probability
        assert (step.divergence, step.largest, step.over_all) == (None, 0.0, False)


def test_a_longer_run_goes_on_alone() -> None:
    run = synthetic_run()
    for ours, theirs in ((run, cut(run, 2)), (cut(run, 2), run)):
        (course,), _ = compared(ours, theirs)
        alone = [step.b if ours is run else step.a for step in course.steps]
        assert [token is None for token in alone] == [False, False, True, True]
        assert [step.shared for step in course.steps] == [True, True, False, False]
        assert course.steps[3].largest is None


def test_another_draw_up_to_the_step_that_parts() -> None:
    a, b = (real_run(seed=seed, **SAMPLING, max_new_tokens=10) for seed in (1, 2))
    (course,), modules = compared(a, b)
    parted = course.parted
    assert parted is not None
    for step, ours, theirs in zip(course.steps, a.steps, b.steps, strict=False):
        assert step.a is not None
        assert step.b is not None
        assert (step.a.token, step.b.token) == (chosen(ours), chosen(theirs))
        assert step.shared == (step.number <= parted)
        assert (step.divergence is None) == (step.number > parted)
    turning = course.steps[parted - 1]
    assert turning.a is not None
    assert turning.b is not None
    # The same text and the same distribution: each token has in the other run the probability of its own.
    last = b.steps[parted - 1].candidates
    assert turning.a.elsewhere == next(each.probability for each in last if each.token == turning.a.token)
    assert [(each.number, each.differences) for each in modules] == [(parted, ())]
    assert modules[0].calls == len(modules[0].modules) > 10


def chosen(step: Step) -> int:
    choice = step.choice()
    assert choice is not None
    return choice.token


def test_distances_are_those_of_the_saved_logits() -> None:
    a = real_run(**GREEDY, max_new_tokens=6)
    b = real_run(tiny_model().to(torch.bfloat16), **GREEDY, max_new_tokens=6)
    (course,), _ = compared(a, b)
    for step in course.steps:
        if not step.shared:
            continue
        ours, theirs = (run.saved[step.number]["logits"][0].astype(np.float64) for run in (a, b))
        p, q = softmax(ours.astype(np.float32)), softmax(theirs.astype(np.float32))
        assert step.over_all
        assert step.divergence == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-2)
        assert step.largest == pytest.approx(np.abs(ours - theirs).max())
    (few,), _ = compared(a.without(), b.without())
    assert few.steps[0].divergence is None
    assert few.steps[0].largest is not None
    assert not few.steps[0].over_all


def test_a_token_that_a_processor_removed_has_no_probability() -> None:
    a, b = (
        real_run(seed=1, **{**SAMPLING, "top_k": k, "temperature": 9.0}, max_new_tokens=4) for k in (50, 1)
    )
    (course,), _ = compared(a, b)
    assert course.parted is not None
    turning = course.steps[course.parted - 1]
    assert turning.a is not None
    assert turning.a.elsewhere == 0.0


@pytest.mark.parametrize("module", ["model.layers.1.mlp.down_proj", "model.layers.0.self_attn.v_proj"])
def test_a_changed_weight_shows_in_its_module_and_behind(module: str) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_submodule(module).weight[3, 5] += 1.0
    a, b = real_run(**GREEDY, max_new_tokens=4), real_run(model, **GREEDY, max_new_tokens=4)
    _, modules = compared(a, b)
    first = modules[0]
    assert (first.number, first.differences[0].module) == (1, module)
    assert first.differences[0].beyond
    place = first.modules.index(module)
    places = [first.modules.index(each.module or "") for each in first.differences if each.rows is None]
    assert places == sorted(places)
    assert places[0] == place
    assert first.modules[-1] in [each.module for each in first.differences]


def test_a_padded_batch_compares_what_is_recorded_per_row() -> None:
    prompt = batch(1, 5)
    padded = {name: torch.cat([each.new_zeros(1, 3), each], 1) for name, each in prompt.items()}
    other = {**batch(1, 8), "input_ids": batch(1, 8)["input_ids"] + 1}
    both = {name: torch.cat([padded[name], other[name]]) for name in padded}
    a, b = (
        real_run(inputs=prompt, **GREEDY, max_new_tokens=4),
        real_run(inputs=both, **GREEDY, max_new_tokens=4),
    )
    report = diff(a, b, tolerance=0)
    (course,) = courses(a, b, report)
    assert (course.rows.padding_a, course.rows.padding_b) == (0, 3)
    modules = module_steps(a, b, report)
    assert modules
    assert modules[0].calls == 0
    assert {each.quantity for each in modules[0].differences} <= {"key norm", "value norm"}
    assert all(each.rows == course.rows for each in modules[0].differences)


def test_what_the_comparison_knows_about_its_first_difference_is_kept() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[int(batch()["input_ids"][0, 0])] *= 1.0001
    a, b = real_run(**GREEDY, max_new_tokens=4), real_run(model, **GREEDY, max_new_tokens=4)
    report = diff(a, b)
    assert module_steps(a, b, report)[0].differences[0] == report.first


def test_rounding_through_the_layers() -> None:
    eager, sdpa = attention("eager"), attention("sdpa")
    eager.load_state_dict(sdpa.state_dict())
    _, modules = compared(real_run(eager, **GREEDY), real_run(sdpa, **GREEDY))
    assert len(modules) == 1
    assert modules[0].differences
    assert not any(each.beyond for each in modules[0].differences)
