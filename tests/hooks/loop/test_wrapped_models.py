"""A model inside a wrapper is found and traced; the wrapper and the model are both accepted."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from torch import nn

from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.library.release import REFERENCE
from tracer.tracefile import check_file

NEW: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}

KINDS: dict[str, Any] = {
    "lora": LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, target_modules=["q_proj", "v_proj"]),
    "prompt tuning": PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4),
    "prefix tuning": PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4),
}


def untraced_tokens(wrapper: Any, inputs: dict[str, torch.Tensor]) -> Any:
    """What an adapter model gives without a trace; skips the test where this peft does not work there.

    Newer releases call the model's cache otherwise: some kinds of adapters fail then, and some are ignored
    with a warning.
    """
    try:
        return wrapper.generate(**inputs, **NEW)
    except (KeyError, FutureWarning) as error:
        if metadata.version("transformers") == REFERENCE:
            raise
        pytest.skip(f"peft {metadata.version('peft')} does not work with this release, untraced: {error!r}")


@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")
@pytest.mark.parametrize("inner", [False, True], ids=["wrapper", "model inside"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_model_is_traced(kind: str, inner: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    wrapper, inputs = get_peft_model(tiny_model(), KINDS[kind]).eval(), batch()
    expected = untraced_tokens(wrapper, inputs)
    before = {name: dict(vars(module)) for name, module in wrapper.named_modules()}
    traced = wrapper.get_base_model() if inner else wrapper
    with trace(traced, path=tmp_path / "run.trace") as session:
        assert torch.equal(wrapper.generate(**inputs, **NEW), expected)
        assert torch.equal(wrapper.generate(**inputs, **NEW), expected)
    assert {name: dict(vars(module)) for name, module in wrapper.named_modules()} == before
    assert check_file(session.path).ok
    with open_trace(session.path) as recording:
        assert [len(run.steps) for run in recording.runs] == [5, 5]
        for run in recording.runs:
            tokens = [choice.token for step in run.steps if (choice := step.choice()) is not None]
            assert tokens == expected[0, -5:].tolist()
            assert not any(step.head.errors for step in run.steps)
        names = {module.name for module in recording.header.modules}
    assert ("model.layers.0.self_attn.q_proj.lora_A.default" in names) == (kind == "lora")


def test_a_data_parallel_wrapper_is_unwrapped(tmp_path: Path) -> None:
    class Wrapper(nn.Module):
        """As DistributedDataParallel and FSDP have it: the model is ``module``."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    model = tiny_model()
    with trace(Wrapper(model), path=tmp_path / "run.trace") as session:
        model.generate(**batch(), **NEW)
    assert session.steps == 5
