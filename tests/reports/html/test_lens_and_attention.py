"""Lens and attention in the page's data: the figures of the analyses, and as few bytes as were promised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from reports.html.pack import Section
from reports.html.sections import attention, lens
from reports.html.sections.attention import NOT_FINITE, AttentionData, binned, in_8_bits, used
from reports.html.sections.lens import LensData
from reports.redaction import Aliases, RedactedRun
from reports.view.questions.attention import TOP_POSITIONS, attention_view
from tests.reports.html.samples import page_of, trace_of, with_tensors
from tests.reports.html.test_sections import sections, unpacked
from tests.support.models import batch
from tests.support.synthetic import synthetic_header, synthetic_steps
from tests.tracer.analysis.runs import MemoryRun, real_run
from tracer.analysis.attention import read_attention
from tracer.analysis.lens import read_lens
from tracer.schema.faults import CaptureError
from tracer.schema.run import RunHeader
from tracer.schema.step import Step
from tracer.tracefile import TraceFile

ROWS = 2


@pytest.fixture(scope="module")
def run() -> MemoryRun:
    return real_run(inputs=batch(ROWS), save=("lens", "attention"), do_sample=False)


def collected(kind: type[LensData | AttentionData], run: Any) -> list[Section]:
    collector = kind("run1", run, {})
    for step in run.steps:
        collector.add(step)
    return list(collector.sections())


def test_the_lens_is_stored_exactly(run: MemoryRun, tmp_path: Path) -> None:
    metadata, arrays = unpacked(sections(page_of(trace_of(tmp_path / "run.trace", run)))["run1-lens"])
    assert metadata == {"stride": 1, "faults": {}}
    assert arrays["steps"].tolist() == [step.number for step in run.steps]
    for place, number in enumerate(arrays["steps"].tolist()):
        for row in range(ROWS):
            for expected in read_lens(run, number, row).layers:
                at = (place, expected.layer, row)
                assert arrays["tokens"][at].tolist() == list(expected.tokens)
                assert arrays["probabilities"][at].tolist() == list(expected.probabilities)
                assert (arrays["rank"][at], arrays["probability"][at]) == (
                    expected.rank,
                    np.float32(expected.probability),
                )


def test_the_highest_weights_are_stored_exactly_and_all_in_8_bits(run: MemoryRun, tmp_path: Path) -> None:
    found = sections(page_of(trace_of(tmp_path / "run.trace", run)))
    _, index = unpacked(found["run1-attention"])
    assert index["steps"].tolist() == [step.number for step in run.steps]
    for number in index["steps"].tolist():
        metadata, arrays = unpacked(found[f"run1-attention-{number}"])
        assert (metadata["start"], metadata["width"], metadata["layers"]) == (0, 1, [0, 1])
        for row in range(ROWS):
            expected = read_attention(run, number, row)
            assert metadata["context"] == len(expected.context)
            for place, layer in enumerate(expected.layers):
                stored = (arrays["weights"][place, row].astype(np.float64) / 254) ** 2
                assert (abs(stored - layer.weights) <= 0.004 * np.sqrt(layer.weights) + 4e-6).all()
                np.testing.assert_array_equal(arrays["entropy"][place, row, 1:], layer.entropy)
                assert arrays["entropy"][place, row, 0] == layer.entropy.mean()
                whole = np.vstack([layer.mean, layer.weights])
                positions = arrays["positions"][place, row]
                np.testing.assert_array_equal(
                    arrays["highest"][place, row], np.take_along_axis(whole, positions, axis=-1)
                )
                view = attention_view(expected, {}, layer=layer.layer)
                for line, seen in zip(positions[1:], view.rows, strict=True):
                    shown = [each.position for each in seen.top]
                    assert line[: len(shown)].tolist() == shown


@given(npst.arrays(np.float32, 30, elements=st.floats(0, 1, width=32)))
def test_8_bits_keep_what_the_page_says(weights: Any) -> None:
    stored = in_8_bits(weights)
    assert stored.max() < NOT_FINITE
    miss = abs((stored.astype(np.float64) / 254) ** 2 - weights)
    assert (miss <= 0.004 * np.sqrt(weights) + 4e-6).all()
    assert (miss[weights <= 0.01] <= 0.0004).all()


def test_8_bits_say_what_is_not_finite() -> None:
    found = in_8_bits(np.array([np.nan, np.inf, 1.0000001, -1e-9, 0], dtype=np.float32))
    assert found.tolist() == [NOT_FINITE, NOT_FINITE, 254, 0, 0]


@given(st.integers(1, 40), st.integers(1, 12))
def test_columns_hold_the_sums_of_their_positions(context: int, width: int) -> None:
    weights = np.arange(2 * context, dtype=np.float32).reshape(2, context)
    expected = [[line[i : i + width].sum() for i in range(0, context, width)] for line in weights]
    np.testing.assert_array_equal(binned(weights, width), expected)


def test_unused_slots_are_left_out_unless_something_looks_at_them() -> None:
    weights = np.zeros((2, 8), dtype=np.float32)
    weights[:, 3] = 1
    found, start = used(weights, 5)
    assert (found.shape, start) == ((2, 5), 0)
    weights[0, 6] = 0.5
    assert used(weights, 5)[0].shape == (2, 8)
    windowed, start = used(weights, 20)
    assert (windowed.shape, start) == ((2, 8), 12)


def test_beyond_the_budget_every_nth_step_is_kept(run: MemoryRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens, "LENS_BUDGET", 10)
    monkeypatch.setattr(attention, "ATTENTION_BUDGET", 2500)
    metadata, arrays = unpacked(collected(LensData, run)[0].packed())
    assert (metadata["stride"], arrays["steps"].tolist()) == (3, [1, 4])
    index, *kept = collected(AttentionData, run)
    assert index.arrays["steps"].tolist() == [1, 4]
    assert [section.name for section in kept] == ["run1-attention-1", "run1-attention-4"]


def test_a_long_context_shares_columns(run: MemoryRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "COLUMNS", 4)
    _, first, *_ = collected(AttentionData, run)
    assert (first.metadata["width"], first.metadata["context"]) == (2, 6)
    whole = read_attention(run, 1, 1).layers[1].weights
    stored = (first.arrays["weights"][1, 1].astype(np.float64) / 254) ** 2
    np.testing.assert_allclose(stored, whole[:, ::2] + whole[:, 1::2], atol=0.004)


@pytest.mark.parametrize("kind", [LensData, AttentionData])
def test_what_was_not_asked_for_takes_no_place(kind: type[LensData | AttentionData]) -> None:
    assert collected(kind, real_run(save=(), do_sample=False)) == []


def test_the_reason_of_a_gap_is_kept(run: MemoryRun) -> None:
    message = "that of layers 1 could not be recomputed"
    first = run.steps[0]
    head = first.head.model_copy(
        update={"errors": (CaptureError(stop="layers", message=message, capture="attention"),)}
    )
    gone = with_tensors(run, {1: {"attention/1": None}, 2: {"attention/0": None, "attention/1": None}})
    index, *kept = collected(AttentionData, replace(gone, steps=[replace(first, head=head), *run.steps[1:]]))
    assert index.metadata["faults"] == {1: [message]}
    assert index.arrays["steps"].tolist() == [1, 3, 4, 5, 6]
    assert kept[0].metadata["layers"] == [0]


def test_what_is_no_lens_and_no_attention_is_said(run: MemoryRun) -> None:
    half = run.saved[2]["attention/1"][:, :2]
    odd = with_tensors(run, {1: {"lens/rank": np.zeros((1, 2), dtype=np.int32)}, 2: {"attention/1": half}})
    (found,) = collected(LensData, odd)
    assert found.metadata["faults"] == {1: ["the lens of step 1 is none: its tensors do not fit together"]}
    index, *_ = collected(AttentionData, odd)
    assert index.metadata["faults"] == {2: ["the layers of step 2 have different numbers of heads"]}
    fewer = {name: array[:1] for name, array in run.saved[2].items() if name.startswith("lens/")}
    (found,) = collected(LensData, with_tensors(run, {2: fewer}))
    assert found.metadata["faults"] == {2: ["the lens of step 2 has other layers than the first"]}


def test_a_redacted_lens_has_no_token_ids(run: MemoryRun, tmp_path: Path) -> None:
    trace = trace_of(tmp_path / "run.trace", run)
    numbers = Aliases()
    with TraceFile(trace) as recording:
        redacted = RedactedRun(recording.runs[0], numbers)
        tokens = redacted.tensor(1, "lens/tokens")
        assert {name.partition("/")[0] for name in redacted.tensor_names(1)} == {"lens", "attention"}
        np.testing.assert_array_equal(redacted.tensor(1, "lens/rank"), run.tensor(1, "lens/rank"))
    plain = run.tensor(1, "lens/tokens")
    np.testing.assert_array_equal(tokens, numbers.of(plain))
    assert len(np.unique(tokens)) == len(np.unique(plain))
    _, arrays = unpacked(sections(page_of(trace, redact=True))["run1-lens"])
    prompts = len({token for row in run.header.prompt for token in row.token_ids})
    assert prompts < arrays["tokens"].max() <= 100
    assert not np.array_equal(arrays["tokens"][0], plain)


@dataclass
class LongRun:
    """A long run of a model of 24 layers and 14 heads, whose tensors are made when they are asked for."""

    header: RunHeader
    steps: list[Step]
    prompt: int

    def tensor_names(self, step: int) -> tuple[str, ...]:
        kinds = ("tokens", "probabilities", "rank", "probability")
        return (*(f"lens/{kind}" for kind in kinds), *(f"attention/{layer}" for layer in range(24)))

    def tensor(self, step: int, name: str) -> Any:
        rng = np.random.default_rng([step, sum(map(ord, name))])
        if name in ("lens/tokens", "lens/rank"):
            return rng.integers(1, 150_000, (24, 1, 5) if name == "lens/tokens" else (24, 1), dtype=np.int32)
        if name.startswith("lens/"):
            return rng.random((24, 1, 5) if name == "lens/probabilities" else (24, 1), dtype=np.float32)
        logits = rng.normal(0, 2, (1, 14, 1, self.prompt + step - 1)).astype(np.float32)
        weights = np.exp(logits)
        return weights / weights.sum(-1, keepdims=True)


def test_500_steps_with_2000_positions_stay_small() -> None:
    header = synthetic_header(layers=1)
    capture = header.capture.model_copy(update={"level": "tensors", "save": ("lens", "attention")})
    (first,) = synthetic_steps(header, 1)
    numbered = []
    for number in range(1, 501):
        inputs = first.head.inputs.model_copy(update={"sequence_length": 1999 + number})
        head = first.head.model_copy(update={"step": number, "inputs": inputs})
        numbered.append(replace(first, head=head))
    long = LongRun(header.model_copy(update={"capture": capture}), numbered, 2000)
    looked = collected(AttentionData, long)
    assert len(looked) > 10
    assert sum(len(section.packed()) for section in looked) < 6_000_000
    assert sum(len(section.packed()) for section in collected(LensData, long)) < 1_200_000
    assert looked[0].arrays["steps"].tolist() == list(range(1, 501, looked[0].metadata["stride"]))
    assert looked[1].arrays["positions"].shape == (24, 1, 15, TOP_POSITIONS)
    assert (looked[1].metadata["context"], looked[1].metadata["width"]) == (2000, 4)
