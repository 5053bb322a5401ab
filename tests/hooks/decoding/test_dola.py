"""DoLa decoding is traced: nothing changes, and what is recorded is what the library did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationMixin, PreTrainedModel
from transformers.generation import utils

from hooks.caught_step import CaughtStep, LoopRecord
from hooks.decoding.dola import CaughtContrast, DolaWatch
from hooks.tensors import spec_of
from tests.support.breadth import slow
from tests.support.models import (
    DEVICE,
    EOS,
    GREEDY,
    SAMPLING,
    CollectedRun,
    batch,
    collected,
    generate,
    tiny_model,
)
from tracer.schema.contrast import LayerContrast
from tracer.schema.step import Step

pytestmark = pytest.mark.reference_only

# The library warns of a lower one.
PENALTY = {"repetition_penalty": 1.2}
DOLA_GREEDY, DOLA_SAMPLING = {**GREEDY, **PENALTY}, {**SAMPLING, **PENALTY}
MODES = {"greedy": DOLA_GREEDY, "sampling": DOLA_SAMPLING}
LAYERS: list[str | list[int]] = ["low", "high", [0, 1], [0], [1]]


@dataclass
class LibrarysOwn:
    """What ``_dola_select_contrast`` was given, took and returned, call after call."""

    given: list[list[int]] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    returned: list[torch.Tensor] = field(default_factory=list)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> LibrarysOwn:
    """What the library does in the test."""
    return watched(monkeypatch)


def watched(monkeypatch: pytest.MonkeyPatch) -> LibrarysOwn:
    """See what the library does itself."""
    seen, relative = LibrarysOwn(), utils._relative_top_filter
    select: Callable[..., torch.Tensor] = utils._dola_select_contrast
    bases: list[torch.Tensor] = []

    def selecting(layers: list[int], early: dict[int, torch.Tensor], last: torch.Tensor) -> torch.Tensor:
        result = select(layers, early, last)
        seen.given.append([*layers])
        seen.taken.append(next(layer for layer in layers if early[layer] is bases[-1]))
        seen.returned.append(result.detach().clone())
        return result

    def filtering(last: torch.Tensor, base: torch.Tensor, *rest: Any) -> Any:
        bases.append(base)
        return relative(last, base, *rest)

    monkeypatch.setattr(utils, "_dola_select_contrast", selecting)
    monkeypatch.setattr(utils, "_relative_top_filter", filtering)
    return seen


def contrast_of(step: Step) -> LayerContrast:
    assert step.head.contrast is not None
    return step.head.contrast


def check_of(step: Step) -> Any:
    return next((check for check in step.head.checks if check.name == "contrast"), None)


def attributes(model: PreTrainedModel) -> dict[str, dict[str, object]]:
    return {name: dict(vars(module)) for name, module in model.named_modules()}


def assert_same(traced: Any, untraced: Any) -> None:
    assert torch.equal(traced.sequences, untraced.sequences)
    for mine, theirs in ((traced.scores, untraced.scores), (traced.logits, untraced.logits)):
        assert len(mine) == len(theirs)
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("layers", LAYERS, ids=str)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["qwen2", *slow("llama", "gpt2")])
def test_ids_scores_and_logits_are_bit_identical(
    name: str, mode: str, rows: int, layers: str | list[int]
) -> None:
    model, inputs = tiny_model(name), batch(rows)
    wanted = {**MODES[mode], "dola_layers": layers, "output_scores": True}
    untraced = generate(model, inputs, **wanted)
    state = torch.random.get_rng_state()
    before, classes = attributes(model), (dict(vars(type(model))), dict(vars(GenerationMixin)))
    with collected(model, level="tensors", save=("logits",)) as run:
        traced = generate(model, inputs, **wanted)
    assert_same(traced, untraced)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert attributes(model) == before
    assert (dict(vars(type(model))), dict(vars(GenerationMixin))) == classes
    assert run.problems() == []
    assert run.header.loop == "_dola_decoding"
    assert len(run.steps) == len(traced.logits)
    for step in run.steps:
        assert check_of(step).result == "held" or DEVICE != "cpu"
        assert step.scores is not None
        choices = [step.choice(row) for row in range(rows)]
        tokens = [None if choice is None else choice.token for choice in choices]
        column = inputs["input_ids"].shape[1] + step.head.step - 1
        assert tokens == traced.sequences[:, column].tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_are_traced_as_well(dtype: torch.dtype) -> None:
    model, inputs = tiny_model(num_hidden_layers=6).to(dtype), batch(2)
    wanted = {**DOLA_SAMPLING, "dola_layers": "high", "output_scores": True}
    untraced = generate(model, inputs, **wanted)
    with collected(model) as run:
        assert_same(generate(model, inputs, **wanted), untraced)
    assert run.problems() == []
    assert all(check_of(step).result == "held" for step in run.steps)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("which", ["low", "high", [0, 5, 2, 41, 1]], ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 41, 42])
def test_the_recorded_layers_are_those_that_the_library_takes(
    count: int, which: str | list[int], tied: bool, library: LibrarysOwn
) -> None:
    model = tiny_model(num_hidden_layers=count, tie_word_embeddings=tied)
    if (count, which, tied) == (3, "low", True):
        pytest.skip("the library finds no layer at all, see below")
    calls = []
    handle = model.lm_head.register_forward_hook(lambda *_: calls.append(1))
    generate(model, batch(), **DOLA_GREEDY, dola_layers=which, max_new_tokens=2)
    handle.remove()
    given, taken = library.given[0], [*library.taken]
    with collected(model) as run:
        generate(model, batch(), **DOLA_GREEDY, dola_layers=which, max_new_tokens=2)
    assert run.problems() == []
    assert len(calls) == len(run.steps) * (1 + len(given))
    for step, layer in zip(run.steps, taken, strict=True):
        assert [each.layer for each in contrast_of(step).layers] == given
        assert contrast_of(step).taken == layer


@pytest.mark.parametrize("which", ["low", [3, 4]], ids=str)
def test_a_run_without_any_layer_to_take_fails_as_it_does_untraced(which: str | list[int]) -> None:
    model = tiny_model(num_hidden_layers=3, tie_word_embeddings=True)
    wanted = {**DOLA_GREEDY, "dola_layers": which}
    with pytest.raises(RuntimeError) as untraced:
        generate(model, batch(), **wanted)
    with pytest.raises(RuntimeError) as traced, collected(model) as run:
        generate(model, batch(), **wanted)
    assert str(traced.value) == str(untraced.value)
    assert run.problems() == []
    assert len(run.steps) == 1
    assert run.steps[0].head.contrast is None
    assert run.ends[0].status == "failed"


@pytest.mark.parametrize("which", ["lower", 1, (0, 1), ["a"]], ids=str)
def test_a_value_that_the_library_refuses_is_refused_as_it_is_untraced(which: Any) -> None:
    model = tiny_model()
    with pytest.raises((ValueError, TypeError)) as untraced:
        generate(model, batch(), **DOLA_GREEDY, dola_layers=which)
    before = attributes(model)
    with pytest.raises((ValueError, TypeError)) as traced, collected(model) as run:
        generate(model, batch(), **DOLA_GREEDY, dola_layers=which)
    assert str(traced.value) == str(untraced.value)
    assert attributes(model) == before
    assert run.problems() == []
    assert run.steps == []


@pytest.mark.parametrize(("which", "layers"), [([-1, 1], [4, 1]), ([-3], [2]), ([1, 1, 2, -4], [1, 2])])
def test_layers_are_named_once_and_by_their_place(which: list[int], layers: list[int]) -> None:
    model, inputs = tiny_model(num_hidden_layers=4), batch(2)
    untraced = generate(model, inputs, **DOLA_GREEDY, dola_layers=which, output_scores=True)
    with collected(model) as run:
        assert_same(generate(model, inputs, **DOLA_GREEDY, dola_layers=which, output_scores=True), untraced)
    assert run.problems() == []
    for step in run.steps:
        contrast = contrast_of(step)
        assert [each.layer for each in contrast.layers] == layers
        assert contrast.taken in layers
        assert check_of(step).result == "held"


# What the library itself gives for any logits


def described(last: torch.Tensor, early: torch.Tensor, first: torch.Tensor | None) -> LoopRecord:
    """What is recorded of a step with these logits."""
    ids = torch.zeros(len(last), 1, dtype=torch.int64)
    step = CaughtStep(
        number=1,
        started=0.0,
        input_specs=[],
        others={},
        ids_spec=spec_of(ids),
        sequence_length=1,
        fed=1,
        stages=1,
        vocab_size=last.shape[-1],
    )
    step.tensors.loop = {"last": last, "early": early}
    if first is not None:
        step.tensors.loop["first"] = first.float()
    step.loop = CaughtContrast(tuple(range(1, len(early) + 1)))
    return step.loop.describe(step)


def librarys(last: torch.Tensor, early: torch.Tensor) -> torch.Tensor:
    """The contrast as the library computes it, with its layers numbered from 1."""
    layers = [*range(1, len(early) + 1)]
    given = dict(zip(layers, early.clone(), strict=True))
    result: torch.Tensor = utils._dola_select_contrast(layers, given, last.clone())
    return result


SPECIAL = [float("nan"), float("inf"), float("-inf")]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    layers=st.integers(1, 5),
    rows=st.integers(1, 3),
    vocab=st.integers(1, 40),
    spread=st.sampled_from([0.0, 0.1, 1.0, 10.0, 300.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    special=st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(SPECIAL)), max_size=3),
)
def test_the_record_is_what_the_library_gives(
    seed: int,
    layers: int,
    rows: int,
    vocab: int,
    spread: float,
    dtype: torch.dtype,
    special: list[tuple[int, float]],
) -> None:
    generator = torch.Generator().manual_seed(seed)
    both = (spread * torch.randn(layers + 1, rows, vocab, generator=generator)).to(dtype)
    for place, value in special:
        both.view(-1)[place % both.numel()] = value
    last, early = both[0], both[1:]
    with pytest.MonkeyPatch.context() as patch:
        seen = watched(patch)
        expected = librarys(last, early)
    record = described(last, early, expected)
    contrast = record.contrast
    assert contrast is not None
    assert contrast.taken == seen.taken[0] or early[contrast.taken - 1].equal(early[seen.taken[0] - 1])
    assert [layer.layer for layer in contrast.layers] == [*range(1, layers + 1)]
    assert all((layer.divergence is None) == (layers == 1) for layer in contrast.layers)
    assert contrast.kept == tuple((expected != -torch.inf).sum(-1).tolist())
    for row, tokens in enumerate(contrast.tokens):
        scores = expected[row][expected[row] > -torch.inf]
        assert len(tokens) == min(len(scores), 10)
        values = [expected[row, each.token] for each in tokens]
        assert torch.equal(torch.tensor(values).float(), scores.float().topk(len(tokens)).values)
        for each, score in zip(tokens, values, strict=True):
            found = torch.tensor(each.last, dtype=dtype) - torch.tensor(each.early, dtype=dtype)
            assert torch.equal(found, score)
    ((check, violations),) = record.checks
    assert check.result == "held"
    assert check.checked == check.total == rows
    assert violations == ()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), change=st.sampled_from(["shift", "swap", "layer", "nan", "filter"]))
def test_scores_that_are_not_the_contrast_fail_the_check(seed: int, change: str) -> None:
    both = 3 * torch.randn(4, 2, 30, generator=torch.Generator().manual_seed(seed))
    last, early = both[0], both[1:]
    scores = librarys(last, early)
    best = int(scores[1].argmax())
    if change == "shift":
        scores[1, best] += 1e-3
    elif change == "swap":
        scores[1, [best, int(scores[1].argmin())]] = scores[1, [int(scores[1].argmin()), best]]
    elif change == "layer":
        other = next(
            layer
            for layer in range(3)
            if not torch.equal(librarys(last[1:], early[layer, None, 1:]), scores[1:])
        )
        scores[1:] = librarys(last[1:], early[other, None, 1:])
    elif change == "nan":
        scores[1, best] = torch.nan
    else:
        scores[1, best] = -torch.inf
    ((check, violations),) = described(last, early, scores).checks
    assert check.result == "failed"
    assert [violation.row for violation in violations] == [1]


def test_without_recorded_scores_the_check_is_not_made() -> None:
    both = torch.randn(3, 2, 30, generator=torch.Generator().manual_seed(0))
    record = described(both[0], both[1:], None)
    ((check, violations),) = record.checks
    assert record.contrast is not None
    assert check.result == "not made"
    assert violations == ()


# Runs in which something else happens


def traced(model: PreTrainedModel, **settings: Any) -> CollectedRun:
    with collected(model) as run:
        generate(model, batch(2), **{**DOLA_GREEDY, "dola_layers": [0, 1], **settings})
    return run


def test_a_changed_stage_0_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    model, select = tiny_model(), utils._dola_select_contrast
    monkeypatch.setattr(utils, "_dola_select_contrast", lambda *args: select(*args) + 0.01)
    run = traced(model)
    assert {check_of(step).result for step in run.steps} == {"failed"}
    assert set(run.problems()) == {"the scores are not the contrast of the two layers"}


def test_a_head_whose_calls_are_not_seen_is_said_and_nothing_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    head = model.lm_head
    # The loop then calls what no module of the model is.
    monkeypatch.setattr(model, "get_output_embeddings", lambda: head.forward)
    run = traced(model)
    assert [step.head.contrast for step in run.steps] == [None] * len(run.steps)
    assert [check_of(step) for step in run.steps] == [None] * len(run.steps)
    assert run.problems() == []


@pytest.mark.parametrize("inner", ["forward", "head", "generate"])
def test_a_processor_that_runs_the_model_inside(inner: str) -> None:
    model = tiny_model()
    hidden = torch.zeros(2, 32, device=DEVICE)
    actions: dict[str, Callable[[torch.Tensor], Any]] = {
        "forward": lambda ids: model(input_ids=ids, output_hidden_states=True),
        "head": lambda _: model.lm_head(hidden),
        "generate": lambda ids: model.generate(
            input_ids=ids, max_new_tokens=1, dola_layers="high", pad_token_id=0, **DOLA_GREEDY
        ),
    }

    def processor(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        actions[inner](ids)
        return scores

    untraced = generate(model, batch(2), **DOLA_GREEDY, dola_layers=[0, 1], logits_processor=[processor])
    with collected(model) as run:
        result = generate(model, batch(2), **DOLA_GREEDY, dola_layers=[0, 1], logits_processor=[processor])
    assert torch.equal(result.sequences, untraced.sequences)
    assert run.problems() == []
    assert len(run.headers) == 1
    assert [check_of(step).result for step in run.steps] == ["held"] * len(untraced.logits)


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2, 8])
def test_a_run_that_fails_in_the_head(fault: type[BaseException], call: int) -> None:
    """Calls 1, 4 and 7 of it are the forward pass's own, the two behind each those for the candidates."""
    model, calls = tiny_model(), 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise fault("planted")

    handle = model.lm_head.register_forward_hook(fail)
    before = attributes(model)
    with pytest.raises(fault, match="planted"), collected(model) as run:
        generate(model, batch(), **DOLA_GREEDY, dola_layers=[0, 1])
    assert attributes(model) == before
    handle.remove()
    whole = (call - 1) // 3
    # The step in which it failed is recorded as far as it came, an interrupted one is not.
    assert len(run.steps) == whole + (fault is ValueError)
    assert run.ends[0].status == ("failed" if fault is ValueError else "interrupted")
    assert [step.head.contrast is not None for step in run.steps] == [True] * whole + [False] * (
        fault is ValueError
    )
    assert run.problems() == []


@pytest.mark.parametrize("method", ["begin", "forwarded", "put"])
def test_a_fault_of_the_watch_costs_its_record_alone(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("broken watch")

    model = tiny_model()
    untraced = generate(model, batch(2), **DOLA_GREEDY, dola_layers=[0, 1])
    monkeypatch.setattr(DolaWatch, method, broken)
    with collected(model) as run:
        result = generate(model, batch(2), **DOLA_GREEDY, dola_layers=[0, 1])
    assert torch.equal(result.sequences, untraced.sequences)
    assert set(run.problems()) == {"RuntimeError: broken watch"}
    assert len(run.steps) == len(untraced.logits)
    assert all((step.head.contrast is None) == (method != "begin") for step in run.steps)
    assert all(step.scores is not None for step in run.steps)


def test_a_row_that_has_ended_is_contrasted_with_the_others(library: LibrarysOwn) -> None:
    model, inputs = tiny_model(), batch(3)
    steps = 0

    def end(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 2:
            scores[1] = -torch.inf
            scores[1, EOS] = 0
        return scores

    with collected(model) as run:
        generate(model, inputs, **DOLA_GREEDY, dola_layers="high", logits_processor=[end])
    assert run.problems() == []
    assert run.steps[-1].head.unfinished != (0, 1, 2)
    for step, returned in zip(run.steps, library.returned, strict=True):
        assert contrast_of(step).kept == tuple((returned != -torch.inf).sum(-1).tolist())
        assert len(contrast_of(step).tokens) == 3


def test_plain_runs_have_no_contrast() -> None:
    model = tiny_model()
    with collected(model) as run:
        generate(model, batch(), **DOLA_GREEDY)
        generate(model, batch(), **DOLA_GREEDY, dola_layers="high")
        generate(model, batch(), **DOLA_GREEDY)
    assert [header.loop for header in run.headers] == ["_sample", "_dola_decoding", "_sample"]
    assert [step.head.contrast is not None for step in run.steps] == [False] * 6 + [True] * 6 + [False] * 6
    assert run.problems() == []
