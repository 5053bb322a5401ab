"""Where two runs part, and why."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tests.support.models import DEVICE, GREEDY, SAMPLING, batch, tiny_model
from tests.support.synthetic import synthetic_end, synthetic_header, synthetic_steps
from tests.tracer.analysis.runs import MemoryRun, real_run
from tracer.analysis.diff import diff
from tracer.analysis.diff.tolerance import Tolerance
from tracer.errors import UsageError
from tracer.schema.changes import Intervention

Inputs = dict[str, torch.Tensor]
LONG: dict[str, Any] = {"max_new_tokens": 10}


def synthetic_run(steps: int = 4, **options: Any) -> MemoryRun:
    header = synthetic_header(**options)
    return MemoryRun(header, list(synthetic_steps(header, steps)), end=synthetic_end(header, steps))


@pytest.fixture(scope="module")
def greedy() -> MemoryRun:
    return real_run(**GREEDY, **LONG)


def test_a_run_with_itself() -> None:
    run = synthetic_run(rows=2)
    report = diff(run, run)
    assert report.same
    assert report.reason == "identical"
    assert (report.facts, report.tokens, report.first, report.first_beyond) == ((), (), None, None)
    assert report.steps == 4
    assert [(pair.a, pair.b) for pair in report.rows] == [(0, 0), (1, 1)]


def test_the_same_run_again(greedy: MemoryRun) -> None:
    report = diff(greedy, real_run(**GREEDY, **LONG), tolerance=0)
    assert report.same
    assert report.reason == "identical"
    assert len(report.logits) == len(greedy.steps)
    assert all(distance.divergence == distance.largest == 0 for distance in report.logits)


def test_another_seed_is_a_draw() -> None:
    a, b = (real_run(seed=seed, **SAMPLING, **LONG) for seed in (1, 2))
    report = diff(a, b)
    assert not report.same
    assert report.reason == "draw"
    assert report.first is None
    token = report.first_token
    assert token is not None
    assert token.same_draw is False
    chosen = [[int(step.scores.chosen[0]) for step in run.steps if step.scores] for run in (a, b)]
    assert token.step == next(i for i, (x, y) in enumerate(zip(*chosen, strict=False), 1) if x != y)
    assert f"Step {token.step}" in report.explanation


def test_other_settings() -> None:
    a = real_run(seed=1, **SAMPLING, **LONG)
    b = real_run(seed=1, **{**SAMPLING, "temperature": 3.0}, **LONG)
    report = diff(a, b)
    assert report.reason == "settings"
    assert report.first_beyond is not None
    assert report.first_beyond.quantity == "score after TemperatureLogitsWarper"
    assert {fact.name for fact in report.facts} == {"temperature", "TemperatureLogitsWarper"}
    greedy = diff(a, real_run(**LONG, do_sample=False))
    assert greedy.reason == "settings"


@pytest.mark.parametrize("change", [1.0, 1e-3])
@pytest.mark.parametrize("module", ["model.layers.1.mlp.down_proj", "model.layers.0.self_attn.v_proj"])
def test_one_changed_weight_names_the_module(greedy: MemoryRun, module: str, change: float) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_submodule(module).weight[3, 5] += change
    report = diff(greedy, real_run(model, **GREEDY, **LONG))
    assert not report.same
    assert report.reason == "weights"
    assert report.first_beyond is not None
    assert (report.first_beyond.step, report.first_beyond.module) == (1, module)
    assert report.first_beyond.size > 0


def test_a_changed_embedding_is_no_rounding(greedy: MemoryRun) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[int(batch()["input_ids"][0, 0])] *= 1.0001
    report = diff(greedy, real_run(model, **GREEDY, **LONG))
    assert report.reason == "weights"
    assert report.first_beyond is not None
    assert report.first_beyond.module == "model.embed_tokens"


def attention(kind: str) -> PreTrainedModel:
    model = tiny_model()
    made = type(model)._from_config(model.config, attn_implementation=kind).eval().to(DEVICE)
    made.load_state_dict(model.state_dict())
    return made


def test_eager_against_sdpa_is_rounding() -> None:
    eager, sdpa = attention("eager"), attention("sdpa")
    report = diff(real_run(eager, **GREEDY, **LONG), real_run(sdpa, **GREEDY, **LONG))
    assert report.same
    assert report.reason == "rounding"
    assert report.first is not None
    assert report.first.module is not None
    # Which statistic shows it first is a matter of the weights; nothing before the attention can.
    assert not re.search(
        r"embed|rotary|layers\.0\.(input_layernorm|self_attn\.[qkv]_proj)", report.first.module
    )
    assert [fact.kind for fact in report.facts] == ["attention"]
    strict = diff(real_run(eager, **GREEDY, **LONG), real_run(sdpa, **GREEDY, **LONG), tolerance=0)
    assert (strict.same, strict.reason) == (False, "numerics")
    assert strict.first_beyond == replace(report.first, allowed=0.0)


def test_bfloat16_against_float32(greedy: MemoryRun) -> None:
    report = diff(greedy, real_run(tiny_model().to(torch.bfloat16), **GREEDY, **LONG))
    assert report.reason in ("numerics", "rounding")
    assert report.first_beyond is None
    assert {fact.kind for fact in report.facts} == {"dtype"}


def test_cache_off(greedy: MemoryRun) -> None:
    report = diff(greedy, real_run(**GREEDY, **LONG, use_cache=False))
    assert report.reason in ("rounding", "cache", "identical")
    assert report.first_beyond is None
    assert "cache" in {fact.kind for fact in report.facts}


def test_a_wrong_cache_is_not_rounding(greedy: MemoryRun) -> None:
    model, off = tiny_model(), real_run(**GREEDY, **LONG, use_cache=False)
    with torch.no_grad():
        model.get_submodule("model.layers.1.mlp.down_proj").weight.mul_(1.5)
    report = diff(real_run(model, **GREEDY, **LONG), off)
    assert report.reason == "cache"
    assert report.first_beyond is not None


def padded(rows: int, pad: int) -> tuple[Inputs, Inputs]:
    """A prompt alone, and in the last row of a batch with padding at its left."""
    single = batch(1, 6)
    ids = torch.cat([single["input_ids"].new_zeros(1, pad), single["input_ids"]], dim=1).repeat(rows, 1)
    mask = torch.ones_like(ids)
    mask[-1, :pad] = 0
    ids[:-1, :pad] = 5
    return single, {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("save", [(), ("logits", "hidden", "kv", "modules=mlp$")], ids=["stats", "tensors"])
def test_a_padded_row_against_the_prompt_alone(save: tuple[str, ...]) -> None:
    single, inputs = padded(3, 4)
    a, b = (real_run(inputs=each, save=save, do_sample=False, **LONG) for each in (single, inputs))
    report = diff(a, b)
    (pair,) = report.rows
    assert (pair.a, pair.b, pair.padding_a, pair.padding_b) == (0, 2, 0, 4)
    assert report.reason in ("rounding", "identical")
    assert report.same
    assert any("Left out: 2 rows" in note for note in report.notes)
    assert bool(report.logits) == bool(save)


@pytest.mark.reference_only("newer ones leave the padding out")
def test_a_penalty_that_sees_the_padding() -> None:
    single, inputs = padded(2, 4)
    report = diff(real_run(inputs=single, **GREEDY, **LONG), real_run(inputs=inputs, **GREEDY, **LONG))
    assert report.reason == "padding"
    assert report.first_beyond is not None
    assert report.first_beyond.quantity == "score after RepetitionPenaltyLogitsProcessor"
    assert "looks back on the padding" in report.explanation


@pytest.mark.parametrize("save", [(), ("hidden",)], ids=["stats", "tensors"])
def test_a_padded_row_in_another_model_is_found(save: tuple[str, ...]) -> None:
    single, inputs = padded(2, 3)
    model = tiny_model()
    with torch.no_grad():
        model.get_submodule("model.layers.1.self_attn.k_proj").weight.mul_(1.5)
    report = diff(
        real_run(inputs=single, save=save, **GREEDY, **LONG),
        real_run(model, inputs, save=save, **GREEDY, **LONG),
    )
    assert report.reason == "padding"
    assert report.first_beyond is not None
    assert report.first_beyond.module == "model.layers.1.self_attn"
    assert report.first_beyond.quantity == "key norm"
    assert report.first_beyond.rows == report.rows[0]


def test_saved_tensors_find_what_statistics_hide(greedy: MemoryRun) -> None:
    a = real_run(save=("hidden",), **GREEDY, **LONG)
    altered = {number: dict(saved) for number, saved in a.saved.items()}
    hidden = altered[2]["hidden/1"].copy()
    hidden[0, 0, [0, 1]] = hidden[0, 0, [1, 0]]
    altered[2]["hidden/1"] = hidden
    report = diff(a, replace(a, saved=altered))
    assert report.first_beyond is not None
    assert (report.first_beyond.step, report.first_beyond.module) == (2, "model.layers.1")
    assert report.first_beyond.quantity == "tensor hidden/1"
    assert report.first_beyond.size == pytest.approx(abs(float(hidden[0, 0, 0] - hidden[0, 0, 1])))


def test_the_ids_of_a_lens_are_no_measurements() -> None:
    run = real_run(save=("lens",), do_sample=False, **LONG)
    saved = {
        number: {**tensors, "lens/tokens": tensors["lens/tokens"][..., ::-1]}
        for number, tensors in run.saved.items()
    }
    assert diff(run, MemoryRun(run.header, run.steps, run.tokens, run.end, saved)).reason == "identical"


def test_divergence_of_the_logits() -> None:
    a = real_run(**GREEDY, **LONG)
    moved = {number: {"logits": saved["logits"] + np.float32(1)} for number, saved in a.saved.items()}
    report = diff(a, replace(a, saved=moved), tolerance=1.0)
    assert all(distance.divergence == pytest.approx(0, abs=1e-6) for distance in report.logits)
    assert all(distance.largest == pytest.approx(1, rel=1e-5) for distance in report.logits)
    other = {number: {"logits": saved["logits"] * np.float32(0.5)} for number, saved in a.saved.items()}
    report = diff(a, replace(a, saved=other))
    x, y = torch.from_numpy(a.saved[1]["logits"]), torch.from_numpy(other[1]["logits"])
    theirs = torch.nn.functional.kl_div(
        y.log_softmax(-1), x.log_softmax(-1), log_target=True, reduction="sum"
    )
    assert report.logits[0].divergence == pytest.approx(float(theirs), rel=1e-4)


def test_nan_is_never_explained(greedy: MemoryRun) -> None:
    step = greedy.steps[0]
    assert step.modules is not None
    mean, count = step.modules.mean.copy(), step.modules.nonfinite.copy()
    place = len(mean) // 2
    mean[place], count[place] = math.nan, 3
    steps = [replace(step, modules=replace(step.modules, mean=mean, nonfinite=count)), *greedy.steps[1:]]
    report = diff(greedy, replace(greedy, steps=steps), tolerance=1e9)
    assert not report.same
    assert report.first_beyond is not None
    assert step.layout is not None
    assert report.first_beyond.module == greedy.header.modules[step.layout.modules[place]].name
    both = diff(replace(greedy, steps=steps), replace(greedy, steps=steps))
    assert both.same


def test_other_prompts() -> None:
    a, b = real_run(**GREEDY), real_run(inputs=batch(1, seed=9), **GREEDY)
    report = diff(a, b)
    assert (report.same, report.reason, report.steps) == (False, "prompt", 0)


def test_one_run_is_longer(greedy: MemoryRun) -> None:
    report = diff(greedy, replace(greedy, steps=greedy.steps[:3]))
    assert (report.same, report.reason) == (False, "length")
    assert "10" in report.explanation


def test_what_the_user_changed(greedy: MemoryRun) -> None:
    head = greedy.steps[0].head.model_copy(update={"interventions": (Intervention(kind="ban", detail="5"),)})
    steps = [replace(greedy.steps[0], head=head), *greedy.steps[1:]]
    assert diff(greedy, replace(greedy, steps=steps)).reason == "intervention"


def test_rows_in_another_order(greedy: MemoryRun) -> None:
    inputs = batch(3)
    turned = {name: tensor.flip(0) for name, tensor in inputs.items()}
    ours, theirs = real_run(inputs=inputs, **GREEDY), real_run(inputs=turned, **GREEDY)
    cache = theirs.steps[2].cache
    assert cache is not None
    # The last bit, which a sum in another order may well change.
    rounded = replace(cache, key_norm=np.nextafter(cache.key_norm, np.float32(np.inf)))
    steps = [*theirs.steps[:2], replace(theirs.steps[2], cache=rounded), *theirs.steps[3:]]
    report = diff(ours, replace(theirs, steps=steps))
    assert [(pair.a, pair.b) for pair in report.rows] == [(0, 2), (1, 1), (2, 0)]
    assert report.first is not None
    assert report.first_beyond is None
    one = diff(real_run(inputs=inputs, **GREEDY), real_run(inputs=turned, **GREEDY), rows=[(1, 1)])
    assert len(one.rows) == 1
    with pytest.raises(UsageError, match="no pair"):
        diff(greedy, greedy, rows=[(0, 1)])


def test_different_models() -> None:
    run = synthetic_run()
    with pytest.raises(UsageError, match="different models: layers is 28 in A and 3 in B"):
        diff(run, synthetic_run(layers=3))
    modules = (*run.header.modules[:-1], run.header.modules[-1].model_copy(update={"name": "head"}))
    other = replace(run, header=run.header.model_copy(update={"modules": modules}))
    with pytest.raises(UsageError, match="only B has the module head"):
        diff(run, other)
    versions = {**run.header.versions, "transformers": "5.24.0"}
    later = replace(other, header=other.header.model_copy(update={"versions": versions}))
    assert diff(run, later).steps == len(run.steps)  # a release may put a model together of others
    with pytest.raises(UsageError, match="tolerance"):
        diff(run, run, tolerance=-1.0)


def test_runs_without_steps_or_statistics(greedy: MemoryRun) -> None:
    empty = replace(greedy, steps=[])
    assert diff(empty, empty).steps == 0
    bare = replace(greedy, steps=[replace(step, modules=None, cache=None) for step in greedy.steps])
    report = diff(bare, greedy)
    assert report.same
    assert any("no statistics" in note for note in report.notes)


def test_tolerance_grows_with_depth_and_dtype() -> None:
    single, half = Tolerance.of("float32", "float32"), Tolerance.of("float32", "bfloat16")
    assert single.allowed(0) == 16 * 2**-24
    assert single.allowed(99) == pytest.approx(10 * single.allowed(0))
    assert half.allowed(0) == 8 * 2**-8
    assert Tolerance.of("float32", "float32", 0.5).allowed(1000) == 0.5


@pytest.mark.parametrize(("device", "same"), [("cpu", True), ("cuda:0", False)])
def test_the_first_draw_of_a_larger_batch(device: str, same: bool) -> None:
    single, inputs = {name: tensor[:1] for name, tensor in batch(2).items()}, batch(2)
    runs = [real_run(inputs=each, **SAMPLING, **LONG) for each in (single, inputs)]
    for run in runs:
        head = run.steps[0].head
        assert head.draw is not None
        draw = head.draw.model_copy(update={"device": device})
        scores = run.steps[0].scores
        assert scores is not None
        scores.chosen[0] = 1 + runs.index(run)
        run.steps = [replace(run.steps[0], head=head.model_copy(update={"draw": draw}))]
    token = diff(*runs).first_token
    assert token is not None
    assert token.same_draw is same
