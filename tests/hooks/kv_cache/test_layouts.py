"""Each class of cache is read as it is laid out: sound runs stay green, broken ones turn red."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    CTRLConfig,
    DynamicCache,
    Gemma2Config,
    GPTBigCodeConfig,
    JambaConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PretrainedConfig,
    PreTrainedModel,
    RwkvConfig,
    SinkCache,
    StaticCache,
)
from transformers.cache_utils import EncoderDecoderCache, OffloadedCache, QuantizedCache, QuantizedCacheConfig

from hooks.known_models import ANY_MODEL, _known_model
from hooks.kv_cache.view import view_cache
from tests.support.models import CollectedRun, batch, collected, generate, tiny_model
from tracer.schema.checks import Check

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

GREEDY: dict[str, Any] = {"do_sample": False, "max_new_tokens": 5, "eos_token_id": None}
SIZES: dict[str, Any] = {"vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
GPT: dict[str, Any] = {**SIZES, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
GQA: dict[str, Any] = {
    **SIZES,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MAMBA: dict[str, Any] = {"use_mamba_kernels": False, "mamba_d_state": 8, "mamba_dt_rank": 4, "num_experts": 2}

MODELS: dict[str, Callable[[], PretrainedConfig]] = {
    "ctrl": lambda: CTRLConfig(**GPT, dff=64),
    "bigcode": lambda: GPTBigCodeConfig(**GPT),
    "bigcode_heads": lambda: GPTBigCodeConfig(**GPT, multi_query=False),
    "jamba": lambda: JambaConfig(
        **{**GQA, "num_hidden_layers": 4}, **MAMBA, attn_layer_period=2, attn_layer_offset=1
    ),
    "gemma2": lambda: Gemma2Config(**GQA, head_dim=8, sliding_window=6),
    "rwkv": lambda: RwkvConfig(**SIZES, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32),
}


def model_of(name: str) -> PreTrainedModel:
    if name not in MODELS:
        return tiny_model(name)
    config = MODELS[name]()
    config.initializer_range = 0.5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()


class Turned(QuantizedCache):  # type: ignore[misc]
    """Quantises without a library: it turns the sign."""

    def _quantize(self, tensor: torch.Tensor, axis: int) -> torch.Tensor:
        return -tensor

    def _dequantize(self, q_tensor: torch.Tensor) -> torch.Tensor:
        return -q_tensor


class Evicting(DynamicCache):  # type: ignore[misc]
    """Keeps the last four slots, and counts what it has read itself."""

    def update(self, key: Any, value: Any, layer_idx: int, cache_kwargs: Any = None) -> Any:
        whole = super().update(key, value, layer_idx, cache_kwargs)
        self.key_cache[layer_idx], self.value_cache[layer_idx] = (each[..., -4:, :] for each in whole)
        return whole

    def get_seq_length(self, layer_idx: int | None = 0) -> int:
        return int(self._seen_tokens)


class Onloaded(OffloadedCache):  # type: ignore[misc]
    """An offloaded cache that needs no GPU, since it leaves its layers where they are."""

    def __init__(self) -> None:
        DynamicCache.__init__(self)

    def update(self, key: Any, value: Any, layer_idx: int, cache_kwargs: Any = None) -> Any:
        return DynamicCache.update(self, key, value, layer_idx, cache_kwargs)

    def __getitem__(self, layer_idx: int) -> Any:
        return DynamicCache.__getitem__(self, layer_idx)


def static(model: PreTrainedModel) -> StaticCache:
    return StaticCache(model.config, max_batch_size=2, max_cache_len=24, device="cpu", dtype=torch.float32)


def quantised() -> QuantizedCache:
    return Turned(QuantizedCacheConfig(backend="quanto", residual_length=4, compute_dtype=torch.float32))


CACHES: dict[str, tuple[str, Callable[[PreTrainedModel], Any]]] = {
    "DynamicCache": ("llama", lambda _: DynamicCache()),
    "StaticCache": ("llama", static),
    "HybridCache": ("gemma2", lambda _: None),
    "SinkCache": ("llama", lambda _: SinkCache(window_length=9, num_sink_tokens=2)),
    "OffloadedCache": ("llama", lambda _: Onloaded()),
    "QuantizedCache": ("llama", lambda _: quantised()),
    "evicting": ("llama", lambda _: Evicting()),
    "tuple": ("gpt2", lambda _: None),
    "CTRL": ("ctrl", lambda _: None),
    "GPTBigCode": ("bigcode", lambda _: None),
    "GPTBigCode, heads": ("bigcode_heads", lambda _: None),
    "HybridMambaAttentionDynamicCache": ("jamba", lambda _: None),
}
CHECKED: dict[str, list[int | None]] = {
    "DynamicCache": [2] * 5,
    "StaticCache": [2] * 5,
    "HybridCache": [1] * 5,  # the window of 6 slots is full from the prompt on
    "SinkCache": [2, 2, 2, None, None],
    "OffloadedCache": [None] * 5,
    "QuantizedCache": [None] * 5,
    "evicting": [None] * 5,
    "tuple": [2] * 5,
    "CTRL": [2] * 5,
    "GPTBigCode": [2] * 5,
    "GPTBigCode, heads": [2] * 5,
    "HybridMambaAttentionDynamicCache": [2] * 5,
}
"""Layers whose old slots are compared in each step; None where the check is not made."""


MASKED = [name for name in CACHES if name != "CTRL"]  # which is given neither the mask nor positions


def run(model: PreTrainedModel, cache: Any, **settings: Any) -> CollectedRun:
    given = {} if cache is None else {"past_key_values": cache}
    with collected(model) as found:
        generate(model, batch(2), **{**GREEDY, **settings}, **given)
    return found


def checks(found: CollectedRun, name: str) -> list[Check]:
    return [check for step in found.steps for check in step.head.checks if check.name == name]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("name", CACHES)
def test_a_sound_run_is_not_red(name: str) -> None:
    kind, cache = CACHES[name]
    model = model_of(kind)
    found = run(model, cache(model))
    assert found.problems() == []
    made = [None if check.result == "not made" else check.checked for check in checks(found, "cache")]
    assert made == CHECKED[name]
    assert {check.result for check in checks(found, "positions")} == {
        "held" if name in MASKED else "not made"
    }
    assert all(check.reason for check in checks(found, "cache") if check.result == "not made")
    assert found.steps[-1].head.cache_after.length == (9 if name == "SinkCache" else 10)


@contextmanager
def damage(model: nn.Module, cache: Any, harm: Callable[[list[torch.Tensor]], None]) -> Iterator[None]:
    """Damage the keys of the second layer with slots at the end of the fourth forward pass."""
    calls = 0

    def after(_module: Any, _inputs: Any, output: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            past = output.past_key_values
            harm(keys(past if cache is None else cache))

    handle = model.register_forward_hook(after)
    yield
    handle.remove()


def keys(cache: Any) -> list[torch.Tensor]:
    """Views of the keys of the last layer, one for each slot."""
    last = cache.key_cache[-1] if hasattr(cache, "key_cache") else cache[-1]
    tensor = last[0] if isinstance(last, tuple) or last.dim() == 5 else last
    return list(tensor.unbind(-2))


def change(slots: list[torch.Tensor]) -> None:
    slots[3] += 1e-3


def exchange(slots: list[torch.Tensor]) -> None:
    slots[1][:], slots[3][:] = slots[3].clone(), slots[1].clone()


def repeat(slots: list[torch.Tensor]) -> None:
    slots[2][:] = slots[1]


BROKEN = [name for name in CACHES if all(CHECKED[name])]


@pytest.mark.parametrize("harm", [change, exchange, repeat])
@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_old_slot_is_red(name: str, harm: Callable[[list[torch.Tensor]], None]) -> None:
    kind, make = CACHES[name]
    model = model_of(kind)
    cache = make(model)
    with torch.no_grad(), damage(model, cache, harm):
        found = run(model, cache)
    layer = 3 if kind == "jamba" else 1
    for check, step in zip(checks(found, "cache"), found.steps, strict=True):
        assert check.failed == (step.number == 4)
    assert {violation.layer for violation in found.steps[3].head.violations} == {layer}


@pytest.mark.parametrize("name", ["CTRL", "GPTBigCode", "tuple", "DynamicCache"])
@pytest.mark.parametrize("twice", [False, True], ids=["dropped", "twice"])
def test_a_slot_too_few_or_too_many_is_red(name: str, twice: bool) -> None:
    kind, _ = CACHES[name]
    model, calls = model_of(kind), 0

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat((tensor, tensor[..., -1:, :]), -2) if twice else tensor[..., 1:, :]

    def broken(past: Any) -> Any:
        if isinstance(past, DynamicCache):
            past.key_cache = [cut(key) for key in past.key_cache]
            past.value_cache = [cut(value) for value in past.value_cache]
            return past
        return tuple(tuple(map(cut, layer)) if isinstance(layer, tuple) else cut(layer) for layer in past)

    update = model._update_model_kwargs_for_generation

    def updated(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            outputs.past_key_values = broken(outputs.past_key_values)
        return update(outputs, *args, **kwargs)

    model._update_model_kwargs_for_generation = updated
    found = run(model, DynamicCache() if name == "DynamicCache" else None)
    assert [check.failed for check in checks(found, "cache")] == [False] * 4 + [True]
    expected = f"the cache holds {11 if twice else 9} slots, expected 10"
    assert expected in [violation.message for violation in found.steps[4].head.violations]


@pytest.mark.parametrize("name", MASKED)
def test_a_wrong_mask_is_red(name: str) -> None:
    kind, make = CACHES[name]
    model = model_of(kind)
    update, forward, calls = model._update_model_kwargs_for_generation, model.forward, 0

    def wrong(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        updated = update(*args, **kwargs)
        if calls == 2:
            updated["attention_mask"] = updated["attention_mask"][:, 1:]
        return updated

    @functools.wraps(forward)
    def blind(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    model._update_model_kwargs_for_generation, model.forward = wrong, blind
    found = run(model, make(model), max_new_tokens=4)
    assert [check.failed for check in checks(found, "positions")] == [False, False, True, True]


@pytest.mark.parametrize("name", ["DynamicCache", "StaticCache", "HybridCache", "SinkCache"])
def test_a_wrong_cache_position_is_red(name: str) -> None:
    kind, make = CACHES[name]
    model = model_of(kind)
    update, calls = model._update_model_kwargs_for_generation, 0

    def wrong(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        updated = update(*args, **kwargs)
        if calls == 2:
            updated["cache_position"] = updated["cache_position"] - 1
        return updated

    model._update_model_kwargs_for_generation = wrong
    found = run(model, make(model))
    assert [check.failed for check in checks(found, "positions")] == [False, False, True, True, True]
    assert "cache_position is [6], expected [7]" in [v.message for v in found.steps[2].head.violations]


def test_a_state_is_not_said_to_be_empty() -> None:
    found = run(model_of("rwkv"), None)
    after = found.steps[-1].head.cache_after
    assert (after.kind, after.length, after.state, after.layers) == ("list", 10, True, 0)
    assert {check.reason for check in checks(found, "cache")} == {
        "RwkvForCausalLM: it keeps a recurrent state, not a slot for each token"
    }


def test_without_a_cache_the_check_is_not_made() -> None:
    found = run(tiny_model(), None, use_cache=False)
    assert {check.reason for check in checks(found, "cache")} == {"the model hands on no KV cache"}
    assert all(check.held for check in checks(found, "positions"))


def test_of_an_encoder_decoder_cache_the_decoders_own_part_is_read() -> None:
    cache, tensor = EncoderDecoderCache(DynamicCache(), DynamicCache()), torch.ones(1, 2, 3, 4)
    cache.self_attention_cache.update(tensor, tensor, 0)
    view = view_cache(cache, ANY_MODEL, 3)
    assert (view.length, view.appends, view.tensors[0] is tensor) == (3, True, True)


class Placeholders(type(tiny_model())):  # type: ignore[misc]
    """Writes two more slots for a token of the prompt, as models do that read an image."""

    def forward(self, input_ids: Any = None, **kwargs: Any) -> Any:
        if input_ids.shape[1] > 1:
            whole = torch.cat((input_ids, input_ids[:, -2:]), dim=1)
            kwargs = {"past_key_values": kwargs["past_key_values"], "use_cache": True, "return_dict": True}
            return super().forward(input_ids=whole, **kwargs)
        kwargs = {"past_key_values": kwargs["past_key_values"], "use_cache": True, "return_dict": True}
        return super().forward(input_ids=input_ids, **kwargs)


@pytest.mark.parametrize("image", [False, True], ids=["known", "image"])
def test_more_slots_than_tokens_are_red_only_where_the_rule_is_known(image: bool) -> None:
    model = tiny_model()
    prepare = model.prepare_inputs_for_generation
    model.__class__ = Placeholders

    @functools.wraps(prepare)
    def prepared(*args: Any, **kwargs: Any) -> Any:
        found = prepare(*args, **kwargs)
        return {**found, "pixel_values": torch.zeros(2, 3, 4, 4)} if image else found

    model.prepare_inputs_for_generation = prepared
    found = run(model, None)
    first = checks(found, "cache")[0]
    assert first.result == ("not made" if image else "failed")
    assert all((check.result == "not made") == image for check in checks(found, "positions")[1:])
    if image:
        assert first.reason is not None
        assert first.reason.startswith("Qwen2ForCausalLM reads more than tokens, ")
        assert first.note == "the cache holds 8 slots, expected 6"
        assert found.problems() == []


def test_a_model_that_is_not_known_is_never_red(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()

    monkeypatch.setattr("hooks.known_models._KNOWN", {})
    _known_model.cache_clear()
    model.__class__ = Placeholders
    found = run(model, None)
    _known_model.cache_clear()
    assert found.problems() == []
    assert checks(found, "cache")[0].result == "not made"
    assert all(check.held for check in checks(found, "cache")[1:])


def test_an_image_becomes_many_slots() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=16, patch_size=8, projection_dim=16)
    config = LlavaConfig(vision, LlamaConfig(**GQA), image_token_index=98, pad_token_id=0)
    model = LlavaForConditionalGeneration(config).eval()
    ids = torch.tensor([[5, 9, 98, 33, 12, 7]])
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.ones(1, 3, 16, 16),
    }
    with collected(model) as found:
        model.generate(**inputs, **GREEDY, pad_token_id=0)
    assert found.problems() == []
    assert [check.result for check in checks(found, "cache")] == ["not made", *["held"] * 4]
    reasons = {check.reason for check in checks(found, "positions") if check.result == "not made"}
    assert reasons == {
        "LlavaForConditionalGeneration is not known to take one slot and position for each token"
    }
