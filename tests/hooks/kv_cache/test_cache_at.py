"""The cache that a trace gives back at a step is the live one, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList

from hooks.caught_step import CaughtStep
from hooks.saved_tensors import saved_tensors
from hooks.tensors import spec_of
from tests.support import causal_models
from tests.support.caches import cache_argument, cache_in, layers_of
from tests.support.models import SAMPLING, batch, tiny_model
from tracer import open_trace, trace
from tracer.errors import UnsupportedError, UsageError
from tracer.tracefile.encoding.slots import SLOTS, slot_names


class Snapshots(StoppingCriteria):  # type: ignore[misc]
    """Copies the cache at the end of each step."""

    def __init__(self, cache: DynamicCache) -> None:
        self.cache = cache
        self.taken: list[list[tuple[torch.Tensor, torch.Tensor]]] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.taken.append([(key.clone(), value.clone()) for key, value in layers_of(self.cache)])
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@pytest.mark.parametrize("name", ["qwen2", "gpt2", "gpt_neox", "phi3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_against_the_live_cache(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny_model(name).to(dtype)
    legacy = name not in ("qwen2", "phi3")
    cache = DynamicCache()
    snapshots = Snapshots(cache)
    settings: dict[str, Any] = {"max_new_tokens": 5, "pad_token_id": 0, "eos_token_id": None, **SAMPLING}
    if not legacy:
        settings |= {**cache_argument(cache), "stopping_criteria": StoppingCriteriaList([snapshots])}
    with trace(model, path=tmp_path / "run.trace", capture="tensors", save=["kv"]):
        output = model.generate(**batch(2), **settings, return_dict_in_generate=True)
    with open_trace(tmp_path / "run.trace") as recording:
        stored = [recording.runs[0]._tensors.stored(step.number) for step in recording.steps]
        assert stored == [(SLOTS,)] * 5
        if legacy:
            past = cache_in(output)
            pairs = past if isinstance(past, tuple) else layers_of(past)
            snapshots.taken = [[]] * 4 + [list(pairs)]
        for step, layers in enumerate(snapshots.taken, 1):
            found = recording.cache_at(step)
            if layers:
                assert found.layers == len(layers)
            assert found.length == 6 + step - 1
            for layer, (key, value) in enumerate(layers):
                for part, live in (("key", key), ("value", value)):
                    saved = found.saved(layer, part)  # type: ignore[arg-type]
                    assert saved.shape == tuple(live.shape)
                    assert saved.raw.tobytes() == live.cpu().contiguous().view(torch.uint8).numpy().tobytes()
                np.testing.assert_array_equal(found.key(layer), key.float().cpu().numpy())
        with pytest.raises(UsageError, match="no step 9"):
            recording.cache_at(9)
        with pytest.raises(UsageError, match="layers 0 to"):
            recording.cache_at(2).key(99)


def test_slots_of_a_long_prompt_are_stored_layer_by_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hooks.saved_tensors.MOST_TOGETHER", 1024)
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace", capture="tensors", save=["kv"]):
        model.generate(**batch(2), max_new_tokens=2, do_sample=False, eos_token_id=None)
    with open_trace(tmp_path / "run.trace") as recording:
        saved = recording.runs[0]._tensors
        assert [saved.stored(1), saved.stored(2)] == [tuple(sorted(slot_names(2))), (SLOTS,)]
        assert saved.names(1) == saved.names(2)
        assert recording.cache_at(2).key(0).shape[-2] == 7


def test_a_cache_that_was_filled_before_the_run_is_refused(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(1)
    with torch.no_grad():
        filled = cache_in(model(input_ids=inputs["input_ids"][:, :3], use_cache=True))
    with trace(model, path=tmp_path / "run.trace", capture="tensors", save=["kv"]):
        model.generate(
            **inputs, **cache_argument(filled), max_new_tokens=3, do_sample=False, eos_token_id=None
        )
    with open_trace(tmp_path / "run.trace") as recording, pytest.raises(UsageError, match="filled KV cache"):
        recording.cache_at(2)


def test_a_copy_of_a_step_stores_nothing() -> None:
    ids = torch.zeros(1, 1)
    caught = CaughtStep(1, 0.0, [], {}, spec_of(ids), sequence_length=1, fed=1, stages=1)
    caught.tensors.cache_slots = torch.arange(16.0).reshape(4, 1, 1, 1, 4)
    caught.tensors.saved["logits"] = ids
    found = dict(saved_tensors(caught))
    assert [*found] == ["logits", "kv/0/key", "kv/1/key", "kv/0/value", "kv/1/value"]
    dtype, shape, values = found["kv/0/value"]
    assert (dtype, shape) == ("float32", (1, 1, 1, 4))
    assert np.frombuffer(values, np.float32).tolist() == [8, 9, 10, 11]
    assert dict(saved_tensors(caught.copy())) == {}


@pytest.mark.reference_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["CTRLLMHeadModel", "GPTBigCodeForCausalLM", "CpmAntForCausalLM"])
def test_caches_of_plain_tuples_are_stored_too(name: str, tmp_path: Path) -> None:
    model = causal_models.model_of(name)
    settings = {"max_new_tokens": 4, "do_sample": False, "return_dict_in_generate": True}
    with trace(model, path=tmp_path / "run.trace", capture="tensors", save=["kv"]):
        output = model.generate(**causal_models.prompt_of(name), **settings)
    past = output.past_key_values[1]
    key, value = past.chunk(2, -1) if isinstance(past, torch.Tensor) and past.dim() == 3 else past
    with open_trace(tmp_path / "run.trace") as recording:
        found = recording.cache_at(4)
        np.testing.assert_array_equal(found.key(1), key.numpy().reshape(found.key(1).shape))
        np.testing.assert_array_equal(found.value(1), value.numpy().reshape(found.value(1).shape))


@pytest.mark.reference_only
def test_a_cache_that_is_not_stored_says_why(tmp_path: Path) -> None:
    model = causal_models.model_of("Gemma2ForCausalLM")
    with trace(model, path=tmp_path / "run.trace", capture="tensors", save=["kv"]):
        model.generate(**causal_models.prompt_of("Gemma2ForCausalLM"), max_new_tokens=3, do_sample=False)
    with open_trace(tmp_path / "run.trace") as recording:
        said = [each for step in recording.steps for each in step.head.uncaptured]
        assert [(each.capture, each.stop) for each in said] == [("kv", "update")]
        with pytest.raises(UsageError, match="step 1 were not saved: HybridCache: the slots of its window"):
            recording.cache_at(2)


def test_a_cache_that_was_not_asked_for_says_what_to_do(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace"):
        model.generate(**batch(), max_new_tokens=2, do_sample=False)
    with open_trace(tmp_path / "run.trace") as recording, pytest.raises(UsageError, match="record with"):
        recording.cache_at(1)


def test_a_cache_without_slots_is_refused_by_name(tmp_path: Path) -> None:
    model = causal_models.model_of("Mamba2ForCausalLM")
    path = tmp_path / "run.trace"
    with (
        pytest.raises(UnsupportedError, match="save=kv: Mamba2ForCausalLM: it keeps a recurrent state"),
        trace(model, path=path, capture="tensors", save=["kv"]),
    ):
        pass
    assert not path.exists()


def test_without_a_cache_it_is_said_once_that_nothing_is_stored(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace", capture="tensors", save=["kv"], strict=True):
        model.generate(**batch(), max_new_tokens=3, do_sample=False, use_cache=False)
    with open_trace(tmp_path / "run.trace") as recording:
        said = [(step.number, each.reason) for step in recording.steps for each in step.head.uncaptured]
        assert said == [(1, "the model hands on no KV cache")]
        assert len(recording.steps) == 3
