"""The summary of scores, against the plainest implementation to compute it."""

from __future__ import annotations

import math
import os
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.analysis.scores import summary
from tracer.analysis.scores.native import compiled_summary
from tracer.analysis.scores.numpy_summary import top_indices
from tracer.analysis.scores.summary import summarise
from tracer.schema.arrays import F32, F64
from tracer.schema.columns import NO_TOKEN, REMOVED_CAP, ScoreColumns

pytestmark = pytest.mark.no_transformers

CAP = 7
IMPLEMENTATIONS = ("compiled", "numpy")


def distribution(scores: F32) -> F64:
    """Softmax in double precision over the tokens that are not removed."""
    values = scores.astype(np.float64)
    weights = np.exp(
        values - values[values > -np.inf].max(), where=values > -np.inf, out=np.zeros(values.size)
    )
    found: F64 = weights / weights.sum()
    return found


def expected_columns(stages: list[F32], chosen: int) -> dict[str, Any]:
    """What a row of :func:`summarise` has to say, of stages without NaN or infinite scores."""
    probabilities = [distribution(stage) for stage in stages]
    entropies = [-(p[p > 0] * np.log2(p[p > 0])).sum() for p in probabilities]
    gone = [(a > -np.inf) & (b == -np.inf) for a, b in pairwise(stages)]
    return {
        "kept": [int((stage > -np.inf).sum()) for stage in stages],
        "changed": [0, *(int((a != b).sum()) for a, b in pairwise(stages))],
        "removed": [0, *(int(each.sum()) for each in gone)],
        "mass_removed": [0.0, *(p[each].sum() for p, each in zip(probabilities, gone, strict=False))],
        "entropy": entropies,
        "chosen_rank": [1 + int((stage > stage[chosen]).sum()) for stage in stages],
        "chosen_probability": probabilities[-1][chosen],
    }


def summary_of(implementation: str, scores: npt.NDArray[Any], chosen: list[int], cap: int) -> ScoreColumns:
    """The summary with the compiled part or without."""
    if implementation == "compiled" and not compiled_summary.available:
        assert "CI" not in os.environ, "the compiled part is not there"
        pytest.skip("built without a C compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_summary, "available", implementation == "compiled")
        return summarise([*scores], np.array(chosen), np.zeros(len(chosen), dtype=np.bool_), cap)


def check(implementation: str, stages: list[F32], chosen: int) -> None:
    got = summary_of(implementation, np.stack(stages)[:, None], [chosen], CAP)
    expected = expected_columns(stages, chosen)
    for name in ("kept", "changed", "removed", "chosen_rank"):
        assert getattr(got, name)[:, 0].tolist() == expected[name], name
    np.testing.assert_allclose(got.mass_removed[:, 0], expected["mass_removed"], rtol=2e-5, atol=1e-30)
    np.testing.assert_allclose(got.entropy[:, 0], expected["entropy"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(
        got.chosen_probability[0], expected["chosen_probability"], rtol=2e-5, atol=1e-30
    )
    tokens = got.tokens[0][got.tokens[0] != NO_TOKEN]
    for at, stage in enumerate(stages):
        assert np.array_equal(got.scores[at, 0, : tokens.size], stage[tokens])
    np.testing.assert_allclose(
        got.probabilities[0, : tokens.size], distribution(stages[-1])[tokens], rtol=2e-5, atol=1e-30
    )
    assert {chosen, *best(stages[0]), *best(stages[-1])} == set(tokens.tolist())
    for at, (before, after) in enumerate(pairwise(stages), start=1):
        gone = np.flatnonzero((before > -np.inf) & (after == -np.inf)).tolist()
        listed = got.removed_tokens[at, 0][got.removed_tokens[at, 0] != NO_TOKEN].tolist()
        assert listed == (gone if len(gone) <= REMOVED_CAP else [])


def best(stage: F32) -> list[int]:
    alive = np.flatnonzero(stage > -np.inf)
    ranked: list[int] = alive[np.lexsort((alive, -stage[alive]))][:CAP].tolist()
    return ranked


EDITS = ("penalty", "boost", "temperature", "sink", "top_k", "ban", "back", "zeros", "nothing")


def edited(stage: F32, edit: str, random: np.random.Generator) -> F32:
    """A stage after one of the things that processors do."""
    after = stage.copy()
    some = random.choice(stage.size, size=min(stage.size - 1, int(random.integers(1, 60))), replace=False)
    if edit == "penalty":
        after[some] = np.where(stage[some] > 0, stage[some] / 1.3, stage[some] * 1.3)
    elif edit == "boost":
        after[some[:2]] += np.float32(random.choice([0.5, 30.0]))
    elif edit == "temperature":
        after /= np.float32(random.choice([0.3, 0.7, 2.0]))
    elif edit == "sink":  # the best of all fall far below the rest
        after[np.argsort(-stage)[:3]] -= np.float32(random.choice([1.0, 15.0, 60.0]))
    elif edit == "top_k":
        after[stage < np.sort(stage)[-min(stage.size, int(random.integers(1, 40)))]] = -np.inf
    elif edit == "ban" and np.count_nonzero(stage > -np.inf) > some.size:
        after[some] = -np.inf
    elif edit == "back":
        after[some[:3]] = np.float32(1.5)
    elif edit == "zeros":  # equal, though their bits are not
        after[after == 0] *= np.float32(-1)
    return after if (after > -np.inf).any() else stage.copy()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([3, 64, 500, 4_111]),
    spread=st.sampled_from([0.0, 0.5, 4.0, 20.0]),
    edits=st.lists(st.sampled_from(EDITS), max_size=5),
)
def test_any_way_of_the_scores(
    implementation: str, seed: int, size: int, spread: float, edits: list[str]
) -> None:
    random = np.random.default_rng(seed)
    # Few distinct values in places, so that scores tie.
    first = np.round(random.normal(0, spread, size), 1 if seed % 3 else 6).astype(np.float32)
    stages = [first]
    for edit in edits:
        stages.append(edited(stages[-1], edit, random))
    alive = np.flatnonzero(stages[-1] > -np.inf)
    check(implementation, stages, int(random.choice(alive)))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_tiny_mass_that_is_removed_keeps_its_digits(implementation: str) -> None:
    first = np.full(1_000, -25, dtype=np.float32)
    first[:20] = 0
    kept = first.copy()
    kept[20:] = -np.inf
    check(implementation, [first, kept], 3)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_described_all_the_same(implementation: str, bad: float) -> None:
    first = np.linspace(-3, 3, 200, dtype=np.float32)
    second = first.copy()
    second[5] = bad
    third = second.copy()
    third[:100] = -np.inf
    got = summary_of(implementation, np.stack([first, second, third])[:, None], [150], CAP)
    assert got.changed[:, 0].tolist() == [0, 1, 100]
    finite = 200 - (1 if np.isnan(bad) else 0)
    assert got.kept[:, 0].tolist() == [200, finite, 100]
    assert got.removed[:, 0].tolist() == [0, 0, finite - 100]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 3_000), count=st.integers(1, 40))
def test_top_indices_are_those_of_a_sort(seed: int, size: int, count: int) -> None:
    random = np.random.default_rng(seed)
    scores = np.round(random.normal(0, 3, size), 1).astype(np.float32)
    scores[random.random(size) < 0.05] = np.nan
    scores[random.random(size) < 0.2] = -np.inf
    alive = np.flatnonzero(scores > -np.inf)
    expected = alive[np.lexsort((alive, -scores[alive]))][:count]
    assert np.array_equal(top_indices(scores, count), expected)


def awkward(random: np.random.Generator, shape: tuple[int, ...]) -> F32:
    """Scores that tie, some removed, some NaN or infinite, in places all of a row removed."""
    scores = np.round(random.normal(0, random.choice([0.0, 1.0, 40.0]), shape), 1).astype(np.float32)
    for bad in (-np.inf, np.nan, np.inf):
        scores[random.random(shape) < random.choice([0.0, 0.02, 0.6])] = bad
    scores[random.random(shape[:2]) < 0.1] = -np.inf
    return scores


@settings(max_examples=500, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    stages=st.integers(1, 4),
    rows=st.integers(1, 3),
    size=st.sampled_from([1, 63, 64, 65, 700]),
    cap=st.sampled_from([1, 7, 64, 1_000]),
)
def test_both_ways_say_the_same_of_any_scores(seed: int, stages: int, rows: int, size: int, cap: int) -> None:
    random = np.random.default_rng(seed)
    scores = awkward(random, (stages, rows, size))
    for stage in range(1, stages):  # most of it stays
        same = random.random((rows, size)) < random.choice([0.0, 0.9, 1.0])
        scores[stage][same] = scores[stage - 1][same]
    chosen = [int(each) for each in random.integers(NO_TOKEN, size, rows)]
    compiled, plain = (summary_of(implementation, scores, chosen, cap) for implementation in IMPLEMENTATIONS)
    for name, expected in vars(plain).items():
        got = getattr(compiled, name)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape), name
        if expected.dtype == np.float32 and name not in {"scores", "chosen_scores"}:
            np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(got, expected, err_msg=name)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_only_what_was_removed_counts_as_removed_mass(implementation: str) -> None:
    first = np.zeros(300, dtype=np.float32)
    second = first.copy()
    second[:128] = -np.inf
    second[:28] = np.nan  # not removed, though nothing is kept beside them
    got = summary_of(implementation, np.stack([first, second])[:, None], [150], CAP)
    assert got.removed[1, 0] == 100
    assert got.mass_removed[1, 0] == np.float32(100 / 300)


def in_blocks(scores: F32) -> tuple[F32, F32]:
    """Weights and logarithms of weights as the compiled part computes them, in whole blocks, by lanes."""
    padded = np.pad(scores, (0, -scores.size % 128), constant_values=-np.inf)
    one = np.float32
    below = padded - padded.max()
    counts = below >= -105
    below = np.where(counts, below, one(0))
    octave = below * one(1.44269504)
    octave = np.rint(octave)
    rest = below - octave * one(0.693359375) + octave * one(2.12194440e-4)
    curve = np.full_like(rest, 1.9875691500e-4)
    for factor in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        curve = curve * rest + one(factor)
    curve = curve * rest * rest + rest + one(1)
    weights = np.ldexp(curve, octave.astype(np.int32))
    return np.where(counts, weights, one(0)).reshape(-1, 16, 8), below.reshape(-1, 16, 8)


def summed(values: F64) -> float:
    """The sum of values in blocks and lanes, in the order of the compiled part."""
    lanes = reduce(np.add, values.transpose(1, 2, 0))
    blocks = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]))
    return reduce(add, blocks.tolist(), 0.0)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([3, 128, 500, 1_111]),
    spread=st.sampled_from([0.0, 0.5, 4.0, 40.0]),
    edits=st.lists(st.sampled_from(EDITS), max_size=5),
)
def test_the_compiled_part_has_the_same_bits_on_every_processor(
    seed: int, size: int, spread: float, edits: list[str]
) -> None:
    random = np.random.default_rng(seed)
    stages = [random.normal(0, spread, size).astype(np.float32)]
    for edit in edits:
        stages.append(edited(stages[-1], edit, random))
    got = summary_of("compiled", np.stack(stages)[:, None], [NO_TOKEN], CAP)
    before = None
    for at, stage in enumerate(stages):
        weights, below = in_blocks(stage)
        total, moment = summed(weights.astype(np.float64)), summed(weights.astype(np.float64) * below)
        entropy = max(0.0, math.log2(total) - moment / total / math.log(2))
        assert got.entropy[at, 0] == np.float32(entropy)
        alive = np.pad(stage > -np.inf, (0, -size % 128)).reshape(weights.shape)
        if before is not None:
            gone = np.where(alive, 0, before[0]).astype(np.float64)
            assert got.mass_removed[at, 0] == np.float32(summed(gone) / before[1])
        before = weights, total


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_scores_of_double_precision(implementation: str) -> None:
    scores = np.random.default_rng(5).normal(0, 3, (2, 1, 300))
    got = summary_of(implementation, scores, [9], CAP)
    assert got.scores.dtype == np.float32
    assert got.chosen_rank[0, 0] == 1 + np.count_nonzero(scores[0, 0] > scores[0, 0, 9])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_single_precision_is_left_to_the_compiled_part_where_it_is(
    implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "packed_summary" if implementation == "numpy" else "numpy_columns"

    def unwanted(*_: Any) -> Any:
        raise AssertionError("the other implementation ran")

    monkeypatch.setattr(summary, other, unwanted)
    got = summary_of(implementation, np.zeros((2, 1, 300), dtype=np.float32), [9], CAP)
    assert got.kept.tolist() == [[300], [300]]


@pytest.mark.parametrize("chosen", [-2, 300])
def test_a_token_that_is_not_in_the_vocabulary_is_refused(chosen: int) -> None:
    if not compiled_summary.available:
        pytest.skip("built without a C compiler")
    scores = np.zeros((2, 1, 300), dtype=np.float32)
    with pytest.raises(ValueError, match="do not agree"):
        compiled_summary.packed_summary([*scores], np.array([chosen]), CAP)


PART = 64 * 128
"""Scores of a part in ``stages.h``."""


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 3 * PART + 700])
@given(seed=st.integers(0, 2**32 - 1), edits=st.lists(st.sampled_from(EDITS), min_size=1, max_size=4))
@settings(max_examples=5, deadline=None)
def test_rows_that_are_read_in_parts(size: int, seed: int, edits: list[str]) -> None:
    random = np.random.default_rng(seed)
    stages = [random.normal(0, 4, size).astype(np.float32)]
    for edit in edits:
        stages.append(edited(stages[-1], edit, random))
    check("compiled", stages, int(np.argmax(stages[-1])))


@pytest.mark.parametrize(
    "gone", [[0], [PART - 1, PART], [5, PART + 5, 2 * PART + 5], [*range(PART - 16, PART + 16)]]
)
def test_removed_tokens_of_several_parts_are_listed_in_order(gone: list[int]) -> None:
    before = np.random.default_rng(3).normal(0, 4, 3 * PART).astype(np.float32)
    after = before.copy()
    after[gone] = -np.inf
    for more, listed in (([], gone), ([3 * PART - 1], gone if len(gone) < REMOVED_CAP else [])):
        after[more] = -np.inf
        got = summary_of("compiled", np.stack([before, after])[:, None], [int(np.argmax(after))], CAP)
        found = got.removed_tokens[1, 0]
        assert found[found != NO_TOKEN].tolist() == [*listed, *(more if listed else [])]
        assert got.removed[1, 0] == len(gone) + len(more)
