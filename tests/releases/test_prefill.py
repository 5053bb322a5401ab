"""A prompt that is read in parts is one step: the pass that its first token comes from."""

from __future__ import annotations

import pytest
import torch
import transformers

from reports.view.stops.step import step_view
from tests.releases.architectures import architecture
from tests.support.models import GREEDY, batch, collected, generate

pytestmark = pytest.mark.skipif(
    not hasattr(transformers.GenerationConfig(), "prefill_chunk_size"), reason="this release reads it at once"
)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_chunked_prefill_is_one_step(rows: int) -> None:
    model, inputs = architecture("qwen2"), batch(rows, 7)
    settings = {**GREEDY, "prefill_chunk_size": 2}
    untraced = generate(model, inputs, **settings)
    with collected(model) as run:
        traced = generate(model, inputs, **settings)
    assert torch.equal(traced.sequences, untraced.sequences)
    assert run.problems() == []
    assert len(run.steps) == len(traced.logits)
    first = run.steps[0].head
    assert first.prefill_chunks == 3
    assert first.extra_forwards == 0
    assert first.inputs.sequence_length == 7
    assert first.inputs.new_start == 6
    assert first.cache_after.length == 7
    assert {check.result for check in first.checks} == {"held"}
    notes = step_view(run.header, run.steps[0], {}).card("forward-result").blocks
    assert any("3 forward passes before it read the rest of the prompt" in str(note) for note in notes)
    assert all(step.head.prefill_chunks == 0 for step in run.steps[1:])
