"""Tiny random models of every traced architecture, and inputs for them."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2MoeConfig,
)

from hooks.caught_step import CaughtStep
from hooks.loop.generation_watch import GenerationWatch
from hooks.loop.step_builder import StepBuilder
from hooks.modules import tape
from hooks.modules.call_notes import CallNotes
from hooks.modules.model_modules import ModelModules
from hooks.modules.module_watch import ModuleWatch
from hooks.modules.reduction import ReducedCalls
from hooks.saved_tensors import saved_tensors
from hooks.tensors import to_host_all
from hooks.token_texts import TokenTexts
from tracer.schema.run import CaptureSettings, RunEnd, RunHeader
from tracer.schema.step import Step

VOCAB = 100
EOS = 99

DEVICE = os.environ.get("TRACE_GENERATE_TEST_DEVICE", "cpu")
"""Where the tiny models of the tests live; ``cuda`` runs the same tests on a GPU."""

_GQA: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": EOS,
}

CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "qwen2": lambda: Qwen2Config(**_GQA),
    "llama": lambda: LlamaConfig(**_GQA),
    "mistral": lambda: MistralConfig(**_GQA, sliding_window=None),
    "gemma2": lambda: Gemma2Config(**_GQA, head_dim=8),
    "phi3": lambda: Phi3Config(**_GQA),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=EOS
    ),
    "gpt_neox": lambda: GPTNeoXConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        eos_token_id=EOS,
    ),
    "qwen2_moe": lambda: Qwen2MoeConfig(
        **_GQA, num_experts=4, moe_intermediate_size=16, shared_expert_intermediate_size=16
    ),
}


def tiny_model(name: str = "qwen2", *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model in eval mode.

    Args:
        name: a key of :data:`CONFIGS`.
        seed: of its weights.
        changes: attributes of the configuration to set.
    """
    # To make one takes three times as long as to copy it.
    return copy.deepcopy(_tiny_model(name, seed, tuple(changes.items())))


@functools.cache
def _tiny_model(name: str, seed: int, changes: tuple[tuple[str, Any], ...]) -> PreTrainedModel:
    config = CONFIGS[name]()
    for key, value in changes:
        setattr(config, key, value)
    if len(getattr(config, "layer_types", None) or ()) not in (0, config.num_hidden_layers):
        config.layer_types = ["full_attention"] * config.num_hidden_layers
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # The default spread of 0.02 gives nearly equal logits; wider weights give real choices.
        config.initializer_range = 0.5
        return AutoModelForCausalLM.from_config(config).eval().to(DEVICE)


def batch(rows: int = 1, length: int = 6, *, seed: int = 3) -> dict[str, torch.Tensor]:
    """Random prompts; every row but the first is padded at the left."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, EOS, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        mask[row, :row] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0).to(DEVICE), "attention_mask": mask.to(DEVICE)}


GREEDY: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.1}
SAMPLING: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
    "repetition_penalty": 1.05,
}


def generate(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], *, seed: int = 1, **settings: Any
) -> Any:
    """``model.generate`` after seeding, with the raw logits of every step in the result."""
    torch.manual_seed(seed)
    settings = {"max_new_tokens": 6, "pad_token_id": 0, **settings}
    return model.generate(**inputs, **settings, output_logits=True, return_dict_in_generate=True)


class CollectedRun:
    """A sink that builds the records at once and keeps them."""

    def __init__(self, tokenizer: Any = None) -> None:
        self.steps: list[Step] = []
        self.saved: list[dict[str, torch.Tensor]] = []
        self.headers: list[RunHeader] = []
        self.ends: list[RunEnd] = []
        self.faults: list[Exception] = []
        self._texts = TokenTexts(tokenizer)

    @property
    def header(self) -> RunHeader:
        """The header of the last run."""
        return self.headers[-1]

    @property
    def number(self) -> int:
        """Number of the last run, from 1."""
        return len(self.headers)

    def begin(self, header: RunHeader, decoder: int) -> CollectedRun:
        self.headers.append(header)
        self._builder = StepBuilder(
            len(self.headers),
            len(header.prompt),
            header.modules,
            self._texts,
            decoder=decoder,
            candidates=header.capture.candidates,
        )
        return self

    def put(self, caught: CaughtStep) -> bool:
        self.steps.append(self._builder.build(caught)[0])
        self.saved.append({name: _tensor(*values) for name, values in saved_tensors(caught)})
        return False

    def lost(self, fault: Exception) -> None:
        self.faults.append(fault)

    def end(self, end: RunEnd) -> None:
        self.ends.append(end)

    def problems(self) -> list[str]:
        """Everything that went wrong while recording."""
        found = [str(fault) for fault in self.faults]
        for step in self.steps:
            found += [error.message for error in step.head.errors]
            found += [violation.message for violation in step.head.violations]
        for end in self.ends:
            found += [violation.message for violation in end.violations]
        return found


def _tensor(dtype: str, shape: tuple[int, ...], values: memoryview) -> torch.Tensor:
    if not values:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.frombuffer(values, dtype=getattr(torch, dtype)).reshape(shape)


def reduced_calls(watch: ModuleWatch, notes: CallNotes) -> ReducedCalls:
    """The module calls of a step, as they are handed over."""
    queued = watch.queue(notes)
    return queued.reduced(to_host_all(queued.results))


@contextmanager
def watching(
    model: nn.Module, *, statistics: bool = True, save: Mapping[int, str] = MappingProxyType({})
) -> Iterator[ModuleWatch]:
    """Watch the modules of a model as in a run."""
    modules = ModelModules(model)
    watch = ModuleWatch(modules, statistics=statistics, save=save)
    modules.enter()
    before = tape.parts.active.set((watch.tape,))
    try:
        yield watch
    finally:
        tape.parts.active.reset(before)
        modules.leave()


@contextmanager
def collected(model: PreTrainedModel, **capture: Any) -> Iterator[CollectedRun]:
    """Watch a model and collect the records."""
    run = CollectedRun()
    with GenerationWatch(model, CaptureSettings(**capture)).into(run):
        yield run
