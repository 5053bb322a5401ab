"""Tracing changes nothing on a real model, in every decoding mode: everything returned, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from hooks.scores.random_state import generator_state
from tests.hooks.test_unchanged import attributes
from tests.hooks.test_unchanged_demo import encoded
from tests.support.decoding import BEAMS, CONTRASTIVE, GREEDY, GROUPS, SAMPLING
from tests.support.demo import demo_model
from tracer import open_trace, trace
from tracer.library.release import installed_release
from tracer.tracefile import check_file

pytestmark = [pytest.mark.demo, pytest.mark.slow]

DOLA: dict[str, Any] = {"dola_layers": "high", "repetition_penalty": 1.2}
WORDS: dict[str, Any] = {"do_sample": False, "force_words_ids": [[28, 284], [[1073], [260, 3691]]]}
LOOKUP: dict[str, Any] = {"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 1}
MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "beams": ("beam_search", BEAMS["several"]),
    "beam sampling": ("beam_sample", BEAMS["sampling"]),
    "beams, low memory": ("beam_search", {**BEAMS["several"], "low_memory": True}),
    "groups": ("group_beam_search", GROUPS["two"]),
    "constrained": ("constrained_beam_search", {**WORDS, "num_beams": 4}),
    "contrastive": ("contrastive_search", {**CONTRASTIVE["plain"], "do_sample": False}),
    "contrastive, low memory": (
        "contrastive_search",
        {**CONTRASTIVE["plain"], "do_sample": False, "low_memory": True},
    ),
    "dola greedy": ("dola_generation", {**DOLA, "do_sample": False}),
    "dola sampling": ("dola_generation", {**DOLA, "do_sample": True}),
    "assisted greedy": ("assisted_generation", GREEDY),
    "assisted sampling": ("assisted_generation", SAMPLING),
    "lookup greedy": ("assisted_generation", {**GREEDY, **LOOKUP}),
    "lookup sampling": ("assisted_generation", {**SAMPLING, **LOOKUP}),
}
"""The library's name of each mode, and settings that lead to it."""

SINGLE = [
    *(name for name, (mode, _) in MODES.items() if mode == "assisted_generation"),
    "contrastive, low memory",
]
"""Modes that generate one row alone."""

CASES = [
    (name, rows)
    for name, (mode, settings) in MODES.items()
    if (loop := installed_release().loop_of(mode)) is not None and not {*loop.refuses} & {*settings}
    for rows in (1, 3)
    if rows == 1 or name not in SINGLE
]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return demo_model()


@pytest.fixture(scope="module")
def draft(model: PreTrainedModel) -> PreTrainedModel:
    """A model that often agrees with the demo model."""
    found = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.01)
    return found


def runs(name: str, rows: int, model: PreTrainedModel, draft: PreTrainedModel) -> Callable[[], Any]:
    """Generates in a mode, alike each time, with everything that ``generate()`` can return."""
    _, settings = MODES[name]
    if name.startswith("assisted"):
        settings = {**settings, "assistant_model": draft}

    def generate() -> Any:
        draft.generation_config.num_assistant_tokens = 4  # a run leaves another number there
        torch.manual_seed(7)
        return model.generate(
            **encoded(rows),
            **copy.copy(settings),
            max_new_tokens=6,
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
        )

    return generate


def assert_alike(traced: Any, untraced: Any) -> None:
    """Everything that is returned is the same; the cache is compared by what follows from it."""
    assert {*traced} == {*untraced} >= {"sequences", "scores", "logits"}
    for field in {*traced} - {"past_key_values"}:
        pairs = zip(flat(traced[field]), flat(untraced[field]), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), field


def flat(returned: Any) -> list[torch.Tensor]:
    """The tensors of a field, which may be one, one a step, or some of each step; some give None instead."""
    if returned is None:
        return []
    if isinstance(returned, torch.Tensor):
        return [returned]
    return [tensor for each in returned for tensor in flat(each)]


@pytest.mark.parametrize(("name", "rows"), CASES)
@pytest.mark.filterwarnings("ignore:.*do_sample.*:UserWarning")
def test_everything_returned_is_bit_identical(
    model: PreTrainedModel, draft: PreTrainedModel, name: str, rows: int, tmp_path: Path
) -> None:
    generate = runs(name, rows, model, draft)
    untraced = generate()
    state, before = generator_state(torch.device("cpu")), (attributes(model), attributes(draft))
    with trace(model, path=tmp_path / "run.trace", capture="tensors", save=("logits", "kv")) as session:
        traced = generate()
    assert_alike(traced, untraced)
    assert torch.equal(generator_state(torch.device("cpu")), state)
    assert (attributes(model), attributes(draft)) == before
    assert not session.violated
    assert session.faults == ()
    assert check_file(tmp_path / "run.trace").whole
    with open_trace(tmp_path / "run.trace") as recording:
        loop = installed_release().loop_of(MODES[name][0])
        assert loop is not None
        assert recording.header.loop == loop.method
        assert {row.padding > 0 for row in recording.header.prompt} == {False, rows > 1}
        assert all(not step.head.errors for step in recording.steps)
