"""Attention weights are those that the model used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from hooks.probes.attention import _matmul_unit, _SdpaCall
from tests.hooks.test_unchanged import assert_same_result, attributes
from tests.support import causal_models
from tests.support.models import (
    CONFIGS,
    DEVICE,
    GREEDY,
    SAMPLING,
    CollectedRun,
    batch,
    collected,
    generate,
    tiny_model,
)
from tracer.errors import UnsupportedError

ATTENTION: dict[str, Any] = {"level": "tensors", "save": ("attention",)}
KINDS = pytest.mark.parametrize("kind", ["eager", "sdpa"])


def _class_of(name: str) -> type[PreTrainedModel]:
    return type(tiny_model(name))


PAIRS = [
    (name, kind)
    for name in CONFIGS
    for kind in ("eager", "sdpa")
    if kind == "eager" or _class_of(name)._supports_sdpa
]
"""Every architecture with what it offers, which is not the same in every release."""


def model_of(name: str, kind: str) -> PreTrainedModel:
    """The tiny model with an attention implementation."""
    config = CONFIGS[name]()
    config.initializer_range = 0.5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _class_of(name)._from_config(config, attn_implementation=kind).eval().to(DEVICE)


def reference(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """What transformers itself gives for the whole sequence, per layer ``[batch, heads, query, key]``."""
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    with torch.no_grad():
        found = model(ids, attention_mask=mask, position_ids=positions, output_attentions=True).attentions
    assert found is not None
    return list(found)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    ("name", "kind"),
    # Without its cap on the scores Gemma 2 gives others with sdpa than with eager, which is the reference.
    [pair for pair in PAIRS if pair != ("gemma2", "sdpa")],
)
def test_weights_are_transformers_own(name: str, kind: str, rows: int) -> None:
    model, inputs = model_of(name, kind), batch(rows)
    with collected(model, **ATTENTION) as run:
        sequences = generate(model, inputs, **GREEDY).sequences
    assert run.problems() == []
    length, layers = inputs["input_ids"].shape[1], model.config.num_hidden_layers
    eager = model_of(name, "eager")
    for step, saved in enumerate(run.saved):
        context = length + step
        new = length if step == 0 else 1
        grown = torch.ones(rows, step, dtype=torch.int64, device=DEVICE)
        mask = torch.cat([inputs["attention_mask"], grown], dim=1)
        expected = reference(eager, sequences[:, :context], mask)
        assert sorted(saved) == sorted(f"attention/{layer}" for layer in range(layers))
        for layer in range(layers):
            weights = saved[f"attention/{layer}"]
            assert name == "gemma2" or weights.shape[-1] == context
            assert weights.shape[:3] == (rows, model.config.num_attention_heads, new)
            for row in range(rows):
                padding = int((mask[row] == 0).sum())
                first = padding if new > 1 else 0
                # A cache of fixed size has slots that nothing has been written to yet.
                assert not weights[row, :, first:, context:].any()
                ours = weights[row, :, first:, :context].float().cpu().numpy()
                theirs = expected[layer][row, :, context - new + first :].float().cpu().numpy()
                np.testing.assert_allclose(ours, theirs, atol=2e-5)
                assert not ours[..., :padding].any()
                sums = weights[row].sum(-1).numpy()
                np.testing.assert_allclose(sums[:, first:], 1, atol=1e-5)
                # Padding sees everything, or nothing where masks are boolean.
                assert np.isclose(sums[:, :first], 1).all() or not sums[:, :first].any()


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_nothing_changes(name: str, kind: str) -> None:
    model, inputs = model_of(name, kind), batch(2)
    untraced = generate(model, inputs, **SAMPLING)
    before = attributes(model)
    with collected(model, **ATTENTION):
        assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert attributes(model) == before


@KINDS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes(kind: str, dtype: torch.dtype) -> None:
    model, inputs = model_of("qwen2", kind).to(dtype), batch(2)
    untraced = generate(model, inputs, **GREEDY)
    with collected(model, **ATTENTION) as run:
        assert_same_result(generate(model, inputs, **GREEDY), untraced)
    assert run.problems() == []
    assert all("attention/1" in saved for saved in run.saved)


def test_of_a_long_prompt_only_the_last_position_is_kept() -> None:
    model, inputs = model_of("qwen2", "sdpa"), batch(1, 80)
    with collected(model, **ATTENTION) as run:
        generate(model, inputs, **GREEDY)
    assert [saved["attention/0"].shape[-2:] for saved in run.saved] == [
        (1, 80 + step) for step in range(len(run.steps))
    ]
    model = model_of("qwen2", "eager")
    with collected(model, **ATTENTION) as eager:
        generate(model, inputs, **GREEDY)
    np.testing.assert_allclose(run.saved[0]["attention/1"], eager.saved[0]["attention/1"], atol=1e-5)


def missed(run: CollectedRun) -> list[tuple[int, str]]:
    """What could not be had, with the step that says it."""
    return [(step.number, each.reason) for step in run.steps for each in step.head.uncaptured]


def test_weights_that_do_not_give_the_output_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = model_of("qwen2", "sdpa"), batch()
    recompute = _SdpaCall.weights
    monkeypatch.setattr(_SdpaCall, "weights", lambda call, kept: recompute(call, kept).roll(1, -1))
    with collected(model, **ATTENTION) as run:
        generate(model, inputs, **GREEDY)
    assert not any(name.startswith("attention") for saved in run.saved for name in saved)
    assert run.problems() == []
    assert missed(run) == [(1, "that of layers 0, 1 could not be recomputed")]


@pytest.mark.parametrize(("causal", "mask"), [(True, None), (False, None), (False, "bool"), (False, "float")])
def test_recomputed_weights_give_what_sdpa_gives(causal: bool, mask: str | None) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 5, 8, generator=generator)
    key, value = (torch.randn(2, 2, 7, 8, generator=generator) for _ in range(2))
    seen = torch.rand(2, 1, 5, 7, generator=generator) < 0.7
    seen[..., 0] = True
    masks = {None: None, "bool": seen, "float": torch.where(seen, 0.0, torch.finfo(torch.float32).min)}
    keys, values = (tensor.repeat_interleave(2, dim=1) for tensor in (key, value))
    output = nn.functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=masks[mask], is_causal=causal, scale=0.3
    )
    call = _SdpaCall(query, key, value, attn_mask=masks[mask], is_causal=causal, scale=0.3)
    for kept in (1, 5):
        assert float(call.miss(call.weights(kept), output[..., -kept:, :])) <= 1
        assert float(call.miss(call.weights(kept), output[..., -kept:, :] + 1e-3)) > 1


def test_flash_attention_is_refused_with_the_reason() -> None:
    model = tiny_model()
    model.config._attn_implementation = "flash_attention_2"
    before = attributes(model)
    with (
        pytest.raises(UnsupportedError, match="flash_attention_2 never forms"),
        collected(model, **ATTENTION),
    ):
        pass
    assert attributes(model) == before


def test_a_layer_whose_weights_were_not_seen_is_said() -> None:
    model, inputs = model_of("qwen2", "sdpa"), batch()
    attention = model.model.layers[1].self_attn
    original = attention.forward

    def blind(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return original(*args, **kwargs)

    attention.forward = blind
    with collected(model, **ATTENTION) as run:
        generate(model, inputs, **GREEDY)
    assert run.problems() == []
    assert missed(run) == [(1, "that of layers 1 was not seen")]
    assert all("attention/0" in saved for saved in run.saved)


@pytest.mark.reference_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "name", ["BioGptForCausalLM", "MarianForCausalLM", "OPTForCausalLM", "XGLMForCausalLM"]
)
def test_rows_and_heads_in_one_dimension_are_told_apart(name: str) -> None:
    model, inputs = causal_models.model_of(name), batch(2)
    with collected(model, **ATTENTION) as run:
        generate(model, inputs, **GREEDY)
    assert run.problems() == []
    assert missed(run) == []
    for number, saved in enumerate(run.saved):
        weights = saved["attention/1"]
        assert weights.shape == (2, 4, 1 if number else 6, 6 + number)
        assert float(weights[1, :, -1, 0].max()) == 0  # row 1 begins with padding, row 0 does not
        assert float(weights[0, :, -1, 0].max()) > 0


def test_what_is_known_to_form_no_weights_is_refused_by_name() -> None:
    model = causal_models.model_of("RwkvForCausalLM")
    with (
        pytest.raises(UnsupportedError, match="save=attention: RwkvForCausalLM: it has no"),
        collected(model, **ATTENTION),
    ):
        pass


def test_a_fault_of_the_probe_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("hooks.probes.attention.clone", broken)
    model = model_of("qwen2", "eager")
    with collected(model, **ATTENTION) as run:
        generate(model, batch(), **GREEDY)
    assert run.problems() == ["layer 0: RuntimeError: broken", "layer 1: RuntimeError: broken"]
    assert len(run.steps[0].head.errors) == 2
    assert missed(run) == []


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_weights_are_recomputed_in_float32_under_autocast(kind: str) -> None:
    model = model_of("qwen2", kind)
    with collected(model, **ATTENTION) as run, torch.autocast(DEVICE, torch.bfloat16):
        generate(model, batch(), **GREEDY)
    assert run.problems() == []
    weights = [tensor for saved in run.saved for tensor in saved.values()]
    assert len(weights) == 12
    assert {each.dtype for each in weights} == {torch.float32}


@pytest.mark.parametrize(
    ("precision", "unit"), [("highest", 2.0**-23), ("high", 2.0**-10), ("medium", 2.0**-7)]
)
def test_products_are_as_exact_as_the_program_wants_them(precision: str, unit: float) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert _matmul_unit() == unit
    finally:
        torch.set_float32_matmul_precision(before)
