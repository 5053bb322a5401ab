"""Two runs beside one another, as plain values."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from reports.view.questions.comparison import comparison_view
from reports.view.questions.comparison_modules import module_step_view
from tests.reports.terminal.test_explain import HOSTILE
from tests.support.synthetic import synthetic_end, synthetic_header, synthetic_steps, synthetic_tokens
from tests.tracer.analysis.runs import MemoryRun
from tracer.analysis.diff import diff
from tracer.analysis.diff.modules import ModuleStep
from tracer.analysis.diff.report import DiffReport, NumberDifference
from tracer.schema.run import ProcessorInfo, RunHeader


def run_of(header: RunHeader | None = None, *, seed: int = 0, count: int = 3) -> MemoryRun:
    header = header or synthetic_header(layers=2)
    steps = list(synthetic_steps(header, count, seed=seed))
    return MemoryRun(header, steps, synthetic_tokens(), synthetic_end(header, count))


def test_heads_are_paired_by_name_and_what_differs_is_marked() -> None:
    ours = synthetic_header(layers=2)
    info = ProcessorInfo(list_name="logits_processor", class_name="Own", settings={"x": "1"})
    theirs = ours.model_copy(
        update={
            "generation_config": {"min_p": "0.1", **ours.generation_config, "temperature": "0.9"},
            "processors": (info, info.model_copy(update={"settings": {"x": "2"}}), *ours.processors[1:]),
        }
    )
    a = run_of(ours.model_copy(update={"processors": (info, *ours.processors[1:])}))
    b = run_of(theirs)
    groups = {group.title: group.values for group in comparison_view(a, b, diff(a, b), ("a", "b")).headers}
    settings = {fact.name: (fact.a, fact.b, fact.differs) for fact in groups["Generation settings"]}
    assert settings["temperature"] == ("0.7", "0.9", True)
    assert settings["min_p"] == ("-", "0.1", True)
    assert settings["top_k"] == ("20", "20", False)
    own = [(fact.a, fact.b) for fact in groups["Logits pipeline"] if fact.name == "Own"]
    assert [a == b for a, b in own] == [True, False]
    assert own[1][0] == "-"
    assert not any(fact.differs for fact in groups["Versions"])


def test_hostile_names_and_texts_are_made_visible() -> None:
    header = synthetic_header(layers=2)
    model = header.model.model_copy(update={"name": HOSTILE})
    a = run_of(header.model_copy(update={"model": model, "generation_config": {HOSTILE: HOSTILE}}))
    view = comparison_view(a, a, diff(a, a), (HOSTILE, HOSTILE))
    assert "\x1b" not in repr((view.runs, view.headers, view.rows[0].prompts))
    assert view.runs[0].name.startswith("\\x1b")


def test_runs_of_different_length_and_an_incomplete_one() -> None:
    a, b = run_of(count=4), replace(run_of(count=4), end=None)
    b = replace(b, steps=b.steps[:2])
    view = comparison_view(a, b, diff(a, b), ("a", "b"))
    assert "2 steps, incomplete" in view.runs[1].figures
    assert view.rows[0].answers[1] is None
    assert len(view.rows[0].course.steps) == 4
    assert set(view.texts) == {11, 12, 13, 14}


def test_layers_in_order_with_the_module_farthest_apart() -> None:
    a, b = run_of(), run_of(seed=1)
    view = comparison_view(a, b, diff(a, b), ("a", "b"))
    (step,) = view.modules
    assert step.title == "Step 1: the first number that rounding does not explain"
    names = [layer.name for layer in step.layers]
    layers = ["model.layers.0", "model.layers.1"]
    assert names == ["model", "model.embed_tokens", *layers, "model.norm", "lm_head", "(the model itself)"]
    layer = step.layers[2]
    assert layer.worst is not None
    assert layer.worst.share == max(gap.share for gap in layer.gaps)
    assert {gap.module for gap in layer.gaps} >= {"model.layers.0", "model.layers.0.self_attn.q_proj"}
    assert layer.worst.beyond
    assert 0 < layer.worst.allowed < layer.worst.share <= 1


def report_of(run: MemoryRun) -> DiffReport:
    return diff(run, run)


@pytest.mark.parametrize(
    ("relative", "share"),
    [(1e-9, 0.0), (1e-12, 0.0), (1e-3, 2 / 3), (1.0, 1.0), (math.inf, 1.0), (math.nan, 1.0), (0.0, 0.0)],
)
def test_shares_of_a_logarithmic_scale(relative: float, share: float) -> None:
    found = NumberDifference(1, "layers", "lm_head", "mean", None, 1.0, 2.0, 1.0, relative, 1.0, 1e-6)
    step = module_step_view(ModuleStep(1, 1, ("lm_head",), (found,)), report_of(run_of()))
    assert step.decades == (-9, 0)
    worst = step.layers[0].worst
    assert worst is not None
    assert worst.share == pytest.approx(share)
    assert worst.allowed == pytest.approx(1 / 3)


def test_a_scale_for_differences_beyond_the_size_of_the_values() -> None:
    found = NumberDifference(1, "layers", "lm_head", "mean", None, 1.0, 2.0, 1.0, 30.0, 1.0, 1e-6)
    step = module_step_view(ModuleStep(1, 1, ("lm_head",), (found,)), report_of(run_of()))
    assert step.decades == (-9, 2)
