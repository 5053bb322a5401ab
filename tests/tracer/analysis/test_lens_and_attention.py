"""Lens and attention read from saved tensors, damaged ones included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.models import batch, tiny_model
from tests.tracer.analysis.runs import MemoryRun, real_run
from tracer.analysis.attention import read_attention
from tracer.analysis.lens import read_lens
from tracer.errors import UsageError


@pytest.fixture(scope="module")
def run() -> MemoryRun:
    found = real_run(inputs=batch(2), save=("lens", "attention"), do_sample=False)
    # A run in memory has no end record; its history is prompt and choices.
    assert found.end is None
    return found


def changed(run: MemoryRun, name: str, value: Any) -> MemoryRun:
    saved = {step: dict(tensors) for step, tensors in run.saved.items()}
    saved[1][name] = value
    return MemoryRun(run.header, run.steps, run.tokens, run.end, saved)


def test_layers_are_those_of_the_model(run: MemoryRun) -> None:
    lens, attention = read_lens(run, 1, 1), read_attention(run, 1, 1)
    assert [layer.layer for layer in lens.layers] == [layer.layer for layer in attention.layers] == [0, 1]
    assert attention.context == run.header.prompt[1].token_ids
    assert attention.layers[0].weights.shape == (4, 6)
    assert attention.layers[0].mean.sum() == pytest.approx(1, abs=1e-5)


def test_entropy_is_in_bits(run: MemoryRun) -> None:
    even = np.full((2, 2, 1, 6), 1 / 6, dtype=np.float32)
    even[0, 1] = [1, 0, 0, 0, 0, 0]
    layer = read_attention(changed(run, "attention/0", even), 1).layers[0]
    np.testing.assert_allclose(layer.entropy, [np.log2(6), 0], atol=1e-6)


def test_where_the_chosen_token_settles(run: MemoryRun) -> None:
    ranks = np.array([[1, 3], [1, 1]], dtype=np.int32)
    lens = changed(run, "lens/rank", ranks)
    assert (read_lens(lens, 1, 0).settled, read_lens(lens, 1, 1).settled) == (0, 1)
    assert read_lens(changed(run, "lens/rank", ranks + 1), 1).settled is None


def test_layers_with_a_window_see_the_last_positions(run: MemoryRun) -> None:
    found = read_attention(changed(run, "attention/0", run.saved[1]["attention/0"][..., 2:]), 1)
    assert found.layers[0].weights.shape == found.layers[1].weights.shape
    assert not found.layers[0].weights[:, :2].any()


def test_slots_of_a_cache_of_fixed_size_stand_for_no_position(run: MemoryRun) -> None:
    wide = np.pad(run.saved[1]["attention/0"], ((0, 0), (0, 0), (0, 0), (0, 3)))
    both = changed(changed(run, "attention/0", wide), "attention/1", wide)
    assert read_attention(both, 1).context == (*run.header.prompt[0].token_ids, None, None, None)


@pytest.mark.reference_only("newer ones give this model a cache that grows")
def test_a_model_with_a_static_cache() -> None:
    found = real_run(tiny_model("gemma2"), batch(), save=("attention",), do_sample=False)
    context = read_attention(found, 2).context
    assert context[:6] == found.header.prompt[0].token_ids
    assert context[-1] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lens/rank", np.zeros((1, 2), dtype=np.int32)),
        ("lens/tokens", np.zeros(4, dtype=np.int32)),
        ("lens/probabilities", np.zeros((2, 2), dtype=np.float32)),
        ("lens/tokens", np.zeros((2, 2, 5), dtype=np.complex64)),
    ],
)
def test_a_lens_that_does_not_fit_together(run: MemoryRun, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match="do not fit"):
        read_lens(changed(run, name, value), 1)


@pytest.mark.parametrize("shape", [(2, 4, 6), (1, 4, 1, 0), (1, 4, 1, 6)])
def test_attention_of_another_shape(run: MemoryRun, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="no attention"):
        read_attention(changed(run, "attention/1", np.zeros(shape, dtype=np.float32)), 1, 1)


def test_what_was_not_recorded(run: MemoryRun) -> None:
    with pytest.raises(UsageError, match="--lens"):
        read_lens(run.without(), 1)
    with pytest.raises(UsageError, match="--save attention"):
        read_attention(run.without(), 1)
