"""What cannot be printed, compared or stored as text costs only itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria
from transformers.cache_utils import QuantizedCache
from transformers.generation import utils

from tests.support.models import CollectedRun, batch, collected, tiny_model
from tracer import open_trace, trace

NEW: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


class Unprintable:
    """An object that cannot say what it is, nor whether it equals another."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("neither")

    def __deepcopy__(self, memo: Any) -> Unprintable:
        return self


class RoundedCache(QuantizedCache):  # type: ignore[misc]
    """A quantised cache that needs no library."""

    def _quantize(self, tensor: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
        step = tensor.abs().amax().clamp_min(1e-6) / 127
        return (tensor / step).round().to(torch.int8), step

    def _dequantize(self, stored: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return stored[0].float() * stored[1]


def check_whole(run: CollectedRun, steps: int = 4) -> None:
    assert run.faults == []
    assert len(run.steps) == steps
    assert all(step.choice() is not None and step.modules is not None for step in run.steps)


@pytest.mark.reference_only
@pytest.mark.parametrize("as_setting_of_the_call", [False, True])
def test_a_quantised_cache(as_setting_of_the_call: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(utils.QUANT_BACKEND_CLASSES_MAPPING, "quanto", RoundedCache)
    monkeypatch.setattr(utils, "is_quanto_available", lambda: True)
    model = tiny_model("llama")
    settings = {**NEW, "cache_implementation": "quantized"}
    if as_setting_of_the_call:
        settings["cache_config"] = {"backend": "quanto", "residual_length": 4, "q_group_size": 16}
    expected = model.generate(**batch(), **settings)
    with collected(model) as run:
        assert torch.equal(model.generate(**batch(), **settings), expected)
    check_whole(run)
    assert run.header.generation_config["cache_implementation"] == "quantized"
    shown = run.header.generation_config.get("cache_config")
    assert shown == ("QuantizedCacheConfig" if as_setting_of_the_call else None)


def test_settings_of_the_generation() -> None:
    model = tiny_model()
    config = GenerationConfig(max_new_tokens=4, pad_token_id=0)
    config.mine, config.text, config.many = Unprintable(), "a\ud800b", torch.ones(3)
    with collected(model) as run:
        model.generate(**batch(), generation_config=config)
    check_whole(run)
    shown = run.header.generation_config
    assert shown["mine"] == "Unprintable"
    assert shown["text"] == "a\\ud800b"
    assert shown["many"] == "tensor([1., 1., 1.])"
    assert shown["max_new_tokens"] == "4"


class Odd(LogitsProcessor):  # type: ignore[misc]
    """A processor whose attributes are hard to write down."""

    def __init__(self) -> None:
        self.text = "a\ud800b"
        self.things = [Unprintable()]
        self.nowhere = torch.empty(3, device="meta")
        self.level = 3
        setattr(self, "na\ud800me", 1)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


class OddCriterion(Odd, StoppingCriteria):  # type: ignore[misc]
    """A criterion with the same attributes."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def test_attributes_of_processors_and_criteria() -> None:
    model = tiny_model()
    with collected(model) as run:
        model.generate(
            **batch(),
            **NEW,
            logits_processor=LogitsProcessorList([Odd()]),
            stopping_criteria=[OddCriterion()],
        )
    check_whole(run)
    found = {"text": "a\\ud800b", "things": f"[{__name__}.Unprintable]", "level": "3", "na\\ud800me": "1"}
    assert run.header.processors[-1].settings == found
    assert run.header.criteria[-1].settings == found


def test_the_model_itself(tmp_path: Path) -> None:
    model = tiny_model()
    model.config.mine = Unprintable()
    model.model.layers[0].extra_repr = Unprintable().__repr__
    with trace(model, path=tmp_path / "run.trace", name="m\ud800", prompt_texts=["p\udfff"]) as session:
        model.generate(**batch(), **NEW)
    assert session.faults == ()
    with open_trace(session.path) as recording:
        header = recording.header
        assert len(recording.steps) == 4
    assert header.model.name == "m\\ud800"
    assert header.prompt[0].text == "p\\udfff"
    assert header.model.tree == type(model).__name__
    assert '"mine": "Unprintable"' in header.model.config
    assert f'"hidden_size": "{model.config.hidden_size}"' in header.model.config


def test_faults_of_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    faults = iter([Silent(), ValueError("bad \ud800"), ValueError("last")])

    def broken(*_: object) -> None:
        raise next(faults, ValueError("last"))

    monkeypatch.setattr("hooks.loop.run_capture.forward_result", broken)
    model = tiny_model()
    with collected(model) as run:
        model.generate(**batch(), **NEW)
    messages = [error.message for step in run.steps for error in step.head.errors]
    assert messages[:3] == ["Silent", "ValueError: bad \\ud800", "ValueError: last"]


@pytest.mark.filterwarnings("ignore:You are calling .generate:UserWarning")
@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_an_offloaded_model_says_where_it_computes(where: str, tmp_path: Path) -> None:
    model = tiny_model("llama")
    expected = model.generate(**batch(), **NEW)
    if where == "cpu":
        cpu_offload(model, execution_device=torch.device("cpu"))
    else:
        disk_offload(model, str(tmp_path), execution_device=torch.device("cpu"))
    assert model.device.type == "meta"
    with collected(model, save=("lens",)) as run:
        assert torch.equal(model.generate(**batch(), **NEW), expected)
    assert run.header.model.devices == {"": "cpu"}
    assert run.problems() == []
    assert all("lens/tokens" in saved for saved in run.saved)
