"""Tracing changes nothing: results, random state, attributes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel, TextIteratorStreamer

from hooks.scores.random_state import generator_state
from tests.support.models import CONFIGS, DEVICE, GREEDY, SAMPLING, batch, collected, generate, tiny_model
from tracer.errors import UnsupportedError

pytestmark = pytest.mark.usefixtures("both_ways")

MODES = {"greedy": GREEDY, "sampling": SAMPLING}
CAPTURES: list[dict[str, Any]] = [
    {"level": "shapes"},
    {"level": "stats"},
    {"level": "tensors", "save": ("logits", "kv", "hidden", "modules=mlp")},
]


def attributes(model: nn.Module) -> dict[str, dict[str, object]]:
    return {name: dict(vars(module)) for name, module in model.named_modules()}


def assert_same_result(traced: Any, untraced: Any) -> None:
    assert torch.equal(traced.sequences, untraced.sequences)
    assert len(traced.logits) == len(untraced.logits)
    assert all(torch.equal(a, b) for a, b in zip(traced.logits, untraced.logits, strict=True))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CONFIGS)
def test_ids_and_logits_are_bit_identical(name: str, mode: str, rows: int) -> None:
    model, inputs = tiny_model(name), batch(rows)
    untraced = generate(model, inputs, **MODES[mode])
    state = generator_state(torch.device(DEVICE))
    before = attributes(model)
    with collected(model) as run:
        traced = generate(model, inputs, **MODES[mode])
    assert_same_result(traced, untraced)
    assert torch.equal(generator_state(torch.device(DEVICE)), state)
    assert attributes(model) == before
    assert run.problems() == []
    assert len(run.steps) == len(traced.logits)
    chosen = torch.tensor([[step.choice(row).token for step in run.steps] for row in range(rows)])  # type: ignore[union-attr]
    assert torch.equal(chosen, traced.sequences[:, inputs["input_ids"].shape[1] :].cpu())


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: str(capture["level"]))
def test_no_capture_level_changes_the_result(capture: dict[str, Any]) -> None:
    model, inputs = tiny_model(), batch(2)
    untraced = generate(model, inputs, **SAMPLING)
    with collected(model, **capture) as run:
        assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert run.problems() == []


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, MemoryError])
def test_everything_is_put_back_after_a_fault(fault: type[BaseException]) -> None:
    model, inputs = tiny_model(), batch()
    before = attributes(model)
    classes = {cls: dict(vars(cls)) for cls in (type(model), PreTrainedModel, GenerationMixin, nn.Module)}
    calls = 0

    def fail(_ids: torch.Tensor, _scores: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise fault("planted")
        return _scores

    with pytest.raises(fault, match="planted"), collected(model) as run:
        generate(model, inputs, **GREEDY, logits_processor=[fail])
    assert attributes(model) == before
    assert all(dict(vars(cls)) == attrs for cls, attrs in classes.items())
    assert len(run.steps) == 2
    end = run.ends[0]
    assert end.status == ("interrupted" if fault is KeyboardInterrupt else "failed")
    assert (end.error is None) == (fault is KeyboardInterrupt)
    assert end.steps == 2
    assert len(end.sequences[0]) == inputs["input_ids"].shape[1] + 2


def test_another_model_of_the_class_is_not_touched() -> None:
    traced, other = tiny_model(seed=0), tiny_model(seed=1)
    inputs, before = batch(), attributes(other)
    expected = generate(other, inputs, **SAMPLING)
    with collected(traced) as run:
        assert attributes(other) == before
        assert_same_result(generate(other, inputs, **SAMPLING), expected)
        assert run.steps == []
    assert attributes(other) == before


def test_forward_patched_by_somebody_else_survives() -> None:
    model, inputs = tiny_model(), batch()
    layer = model.model.layers[0]
    original, seen = layer.forward, []

    def theirs(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return original(*args, **kwargs)

    layer.forward = theirs
    with collected(model) as run:
        generate(model, inputs, **GREEDY)
    assert vars(layer)["forward"] is theirs
    assert len(seen) == len(run.steps)


def test_streamer_of_the_user_gets_every_token() -> None:
    class Streamer:
        def __init__(self) -> None:
            self.got: list[list[int]] = []
            self.ended = False

        def put(self, value: torch.Tensor) -> None:
            self.got.append(value.flatten().tolist())

        def end(self) -> None:
            self.ended = True

    model, inputs, streamer = tiny_model(), batch(), Streamer()
    assert TextIteratorStreamer is not None
    with collected(model) as run:
        generate(model, inputs, **GREEDY, streamer=streamer)
    assert streamer.ended
    assert [token for tokens in streamer.got[1:] for token in tokens] == [
        step.choice().token  # type: ignore[union-attr]
        for step in run.steps
    ]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_beams": 2}, "beam search"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive search"),
        ({"prompt_lookup_num_tokens": 2}, "assisted decoding"),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}, "group beam search"),
    ],
)
def test_untraced_decoding_modes_are_refused_by_name(settings: dict[str, Any], named: str) -> None:
    model = tiny_model()
    before = attributes(model)
    with pytest.raises(UnsupportedError, match=named), collected(model):
        model.generate(**batch(), max_new_tokens=4, pad_token_id=0, **settings)
    assert attributes(model) == before


def test_inference_mode_is_traced_too() -> None:
    model, inputs = tiny_model(), batch(2)
    with torch.inference_mode():
        untraced = generate(model, inputs, **SAMPLING)
        with collected(model) as run:
            assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert run.problems() == []


def test_a_model_made_in_inference_mode_is_traced_outside_of_it() -> None:
    with torch.inference_mode():
        model = tiny_model()
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = buffer.clone()  # such a tensor has no version to ask for
    inputs = batch(2)
    untraced = generate(model, inputs, **SAMPLING)
    with collected(model) as run:
        assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert run.problems() == []


def test_generation_goes_on_when_recording_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = tiny_model(), batch()
    untraced = generate(model, inputs, **SAMPLING)

    def broken(*_: object) -> None:
        raise RuntimeError("broken recorder")

    monkeypatch.setattr("hooks.kv_cache.watch.cache_signature", broken)
    monkeypatch.setattr("hooks.modules.signatures.tensors_in", broken)
    with collected(model) as run:
        assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert {error.stop for step in run.steps for error in step.head.errors} >= {"layers", "update"}


def test_generation_goes_on_when_the_header_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = tiny_model(), batch()
    untraced = generate(model, inputs, **SAMPLING)

    def broken(*_: object) -> None:
        raise RuntimeError("broken facts")

    monkeypatch.setattr("hooks.loop.model_info.describe_model", broken)
    with collected(model) as run:
        assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert [str(fault) for fault in run.faults] == ["broken facts"]
