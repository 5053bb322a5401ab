"""What only a GPU can show. The other tests of the hooks run there too: TRACE_GENERATE_TEST_DEVICE=cuda."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import hooks.kv_cache.view
from hooks.known_models import ANY_MODEL
from hooks.kv_cache.proof import CacheProof
from hooks.kv_cache.view import new_slot_norms, new_slots, view_cache
from tests.support.models import DEVICE, SAMPLING, batch, collected, generate, tiny_model

pytestmark = pytest.mark.skipif(DEVICE == "cpu", reason="needs TRACE_GENERATE_TEST_DEVICE=cuda")


def waits(tokens: int, **capture: Any) -> int:
    """How often a run waits for the GPU."""
    model, inputs = tiny_model(), batch(2)
    settings = {**SAMPLING, "max_new_tokens": tokens, "eos_token_id": None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            if capture:
                with collected(model, **capture) as run:
                    generate(model, inputs, **settings)
                assert run.problems() == []
            else:
                generate(model, inputs, **settings)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    "capture",
    [{"level": "shapes"}, {"level": "stats"}, {"level": "tensors", "save": ("logits", "kv", "hidden")}],
    ids=lambda capture: str(capture["level"]),
)
def test_a_step_waits_for_the_gpu_once_more(capture: dict[str, Any]) -> None:
    waits(2)
    untraced = waits(9) - waits(4)
    assert untraced > 0
    assert waits(9, **capture) - waits(4, **capture) - untraced == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layers_stacked_are_read_as_one_by_one(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [torch.randn(2, 3, 7, 8, device=DEVICE).to(dtype) for _ in range(4)]

    def read() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        view = view_cache([*zip(tensors[:2], tensors[2:], strict=True)], ANY_MODEL, 7)
        (sums,) = CacheProof().read(view, 7).sums
        slots, norms = new_slots(view, 5, 7), new_slot_norms(view, 5, 7)
        assert isinstance(slots, torch.Tensor)
        assert norms is not None
        assert (view.stack is None) == (hooks.kv_cache.view.STACK_BYTES == 0)
        return sums, slots, norms

    stacked = read()
    monkeypatch.setattr(hooks.kv_cache.view, "STACK_BYTES", 0)
    for one, other in zip(stacked, read(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=0)
    assert torch.equal(stacked[0], read()[0])
