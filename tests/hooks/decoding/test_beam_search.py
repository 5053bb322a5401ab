"""Beam search: traced as untraced, and the records rebuild what ``generate()`` returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessor

from tests.hooks.test_unchanged import attributes
from tests.support.breadth import slow
from tests.support.caches import cache_in, layers_of
from tests.support.decoding import BEAMS, CONSTRAINED, GROUPS, fail_in_pass, scorer_of_ones_own, search
from tests.support.models import EOS, VOCAB, CollectedRun, batch, collected, tiny_model
from tracer import open_trace, trace
from tracer.errors import UnsupportedError, UsageError
from tracer.schema.beams import Hypothesis
from tracer.schema.lineage import lineage
from tracer.tracefile import check_file
from tracer.tracefile.reading.wholeness import Wholeness


def assert_same(traced: Any, untraced: Any) -> None:
    for name in ("sequences", "sequences_scores", "beam_indices"):
        assert torch.equal(getattr(traced, name), getattr(untraced, name))
    for name in ("scores", "logits"):
        pairs = zip(getattr(traced, name), getattr(untraced, name), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mode", BEAMS)
@pytest.mark.parametrize("name", ["qwen2", "gpt2", *slow("llama", "mistral", "phi3")])
def test_a_traced_search_is_the_untraced_one(name: str, mode: str, rows: int) -> None:
    model, inputs = tiny_model(name), batch(rows)
    untraced = search(model, inputs, **BEAMS[mode])
    before = attributes(model)
    with collected(model, level="tensors", save=("logits", "kv")) as run:
        assert_same(search(model, inputs, **BEAMS[mode]), untraced)
    assert attributes(model) == before
    assert run.problems() == []
    assert run.header.loop == "_beam_search"
    assert len(run.steps) == len(untraced.scores)
    for step, saved, logits in zip(run.steps, run.saved, untraced.logits, strict=True):
        assert {check.name for check in step.head.checks if check.held} >= {"beams", "cache", "positions"}
        assert torch.equal(saved["logits"], logits.log_softmax(dim=-1))
        parents = list(step.parents)
        assert step.scores is not None
        tokens = torch.from_numpy(step.scores.tokens).long()
        recorded = torch.from_numpy(step.scores.scores[0])[tokens >= 0]
        own = logits.log_softmax(dim=-1)[parents].gather(1, tokens.clamp(0))
        assert torch.equal(recorded, own[tokens >= 0])


def path(run: CollectedRun, hypothesis: Hypothesis) -> tuple[list[int], list[int], list[int]]:
    """The tokens of a hypothesis, the row before each step that it was in, and the steps' places."""
    whole = hypothesis.step if hypothesis.token is None else hypothesis.step - 1
    rows = lineage([step.parents for step in run.steps[:whole]], hypothesis.row)
    chosen = [step.choice(row) for step, row in zip(run.steps, rows[1:], strict=False)]
    tokens = [choice.token for choice in chosen if choice is not None]
    before = list(rows[:-1]) if hypothesis.token is None else list(rows)
    if hypothesis.token is not None:
        tokens.append(hypothesis.token)
    return tokens, before, [*range(len(tokens))]


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_the_records_rebuild_what_is_returned(data: st.DataObject) -> None:
    model, rows = tiny_model(seed=data.draw(st.integers(0, 3))), data.draw(st.sampled_from([1, 3]))
    beams = data.draw(st.integers(2, 4))
    ends = data.draw(st.integers(0, 60))
    arguments = {
        "num_beams": beams,
        "num_return_sequences": data.draw(st.integers(1, beams)),
        "do_sample": data.draw(st.booleans()),
        "length_penalty": data.draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])),
        "early_stopping": data.draw(st.sampled_from([True, False, "never"])),
        "eos_token_id": [EOS, *range(VOCAB - 2, VOCAB - 2 - ends, -1)],
        "max_new_tokens": data.draw(st.integers(1, 8)),
    }
    inputs = batch(rows)
    with collected(model) as run:
        found = search(model, inputs, data.draw(st.integers(0, 9)), **arguments)
    assert run.problems() == []
    end = run.ends[0].beams
    assert end is not None
    returned = [row.hypotheses[number] for row in end.rows for number in row.returned]
    assert [each.value for each in returned] == pytest.approx(found.sequences_scores.tolist(), rel=1e-6)
    transitions = model.compute_transition_scores(found.sequences, found.scores, found.beam_indices)
    length = inputs["input_ids"].shape[1]
    for place, hypothesis in enumerate(returned):
        tokens, before, steps = path(run, hypothesis)
        indices = [row for row in found.beam_indices[place].tolist() if row >= 0]
        assert indices == before
        own = found.sequences[place, length:].tolist()
        known = tokens if hypothesis.token is None else tokens[:-1]
        assert own[: len(known)] == known
        for step, token, parent in zip(steps, tokens, before, strict=True):
            (same,) = [
                each
                for row in run.steps[step].head.beams.rows  # type: ignore[union-attr]
                for each in row.continuations
                if (each.parent, each.token) == (parent, token)
            ]
            assert same.log_probability is not None
            if step < len(known):  # behind them stands whichever id may end a sequence
                assert same.log_probability == pytest.approx(float(transitions[place, step]), abs=1e-5)
    whole = Wholeness(run.header, run.ends[0])
    for step_record in run.steps:
        whole.add(step_record)
    assert whole.gaps() == ()


def test_slots_that_went_to_a_wrong_row_are_seen() -> None:
    model, inputs = tiny_model(), batch(3)

    def wrong(cache: Any, beam_idx: torch.Tensor) -> Any:
        other = beam_idx.clone()
        other[0], other[1] = other[1].item(), other[0].item()
        cache.reorder_cache(other)
        return cache

    # What a loop with a scorer calls, and what one without it looks for before it asks the cache itself.
    with_scorer = hasattr(model, "_temporary_reorder_cache")
    setattr(model, "_temporary_reorder_cache" if with_scorer else "_reorder_cache", wrong)
    with collected(model) as run:
        search(model, inputs, **BEAMS["sampling"])
    steps = [step for step in run.steps[:-1] if step.parents[0] != step.parents[1]]
    assert steps
    seen = {step.number for step in run.steps if any(each.check == "cache" for each in step.head.violations)}
    assert {step.number + 1 for step in steps} <= seen
    assert {each.row for step in run.steps for each in step.head.violations if each.check == "cache"} <= {
        0,
        1,
    }


@pytest.mark.reference_only
@pytest.mark.parametrize("what", ["next_beam_scores", "next_beam_tokens", "next_beam_indices"])
def test_another_decision_than_the_rules_lead_to_is_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BeamSearchScorer  # other releases have none

    process = BeamSearchScorer.process

    def other(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = process(self, *args, **kwargs)
        result[what] = result[what].flip(0)
        return result

    monkeypatch.setattr(BeamSearchScorer, "process", other)
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(), **BEAMS["greedy"], max_new_tokens=4)
    failed = [check.name for step in run.steps for check in step.head.checks if check.failed]
    assert "beams" in failed


@pytest.mark.reference_only
def test_what_cannot_be_followed_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer_of_ones_own(monkeypatch)
    model = tiny_model()
    before = attributes(model)
    with collected(model) as run, pytest.raises(UnsupportedError, match="scorer of one's own"):
        search(model, batch(), num_beams=2)
    assert run.headers == []
    assert attributes(model) == before


def test_a_search_that_fails_is_kept_as_far_as_it_went(tmp_path: Path) -> None:
    model = tiny_model()
    fail_in_pass(model, 4)
    with pytest.raises(RuntimeError, match="no more"), trace(model, path=tmp_path / "t"):
        search(model, batch(3), **BEAMS["greedy"])
    with open_trace(tmp_path / "t") as recording:
        (run,) = recording.runs
        assert run.end is not None
        assert run.end.beams is None
        assert len(run.steps) == 4
        assert [step.head.beams is None for step in run.steps] == [False, False, False, True]


def test_the_cache_is_put_together_along_the_beams(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(3)
    with trace(model, path=tmp_path / "t", capture="tensors", save=["kv"]):
        found = search(model, inputs, **BEAMS["greedy"])
    with open_trace(tmp_path / "t") as recording:
        last = recording.steps[-1]
        cache = recording.cache_at(last.number)
        for layer, (key, value) in enumerate(layers_of(cache_in(found))):
            parents = list(last.parents)  # it is returned as the next step would find it
            assert np.array_equal(cache.key(layer)[parents], key.numpy())
            assert np.array_equal(cache.value(layer)[parents], value.numpy())


def test_questions_that_a_row_cannot_answer_alone_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "t"):
        search(model, batch(), **BEAMS["greedy"])
    with open_trace(tmp_path / "t") as recording, pytest.raises(UsageError, match="beam search"):
        recording.whatif(temperature=0.5)


def test_attention_and_lens_go_with_the_beams() -> None:
    model, inputs = tiny_model(), batch(3)
    with collected(model, save=("lens",)) as run:
        found = search(model, inputs, **BEAMS["sampling"])
    assert run.problems() == []
    for step, saved, logits in zip(run.steps, run.saved, found.logits, strict=True):
        probabilities = logits.softmax(dim=-1)[list(step.parents)]
        chosen = torch.tensor([step.choice(row).token for row in range(step.rows)])  # type: ignore[union-attr]
        own = probabilities.gather(1, chosen[:, None])[:, 0]
        assert torch.allclose(saved["lens/probability"][-1], own, atol=1e-5)


def test_two_searches_part_where_their_beams_do(tmp_path: Path) -> None:
    """Rows of the same number may be other beams: their scores are not compared then."""
    model, inputs = tiny_model(), batch()
    for name, penalty in (("a", 1.0), ("b", 1.3)):
        with trace(model, path=tmp_path / name):
            search(model, inputs, num_beams=3, repetition_penalty=penalty, max_new_tokens=12)
    with open_trace(tmp_path / "a") as first, open_trace(tmp_path / "b") as second:
        assert first.diff(first).same
        found = first.diff(second)
        assert found.reason == "settings"
        for step in zip(first.steps, second.steps, strict=True):
            if step[0].parents != step[1].parents:
                assert found.steps <= step[0].number
                break


@pytest.mark.parametrize(
    "settings",
    [
        BEAMS["greedy"],
        pytest.param(GROUPS["two"], marks=pytest.mark.reference_only),
        pytest.param(CONSTRAINED["two"], marks=pytest.mark.reference_only),
    ],
    ids=["beams", "groups", "constrained"],
)
def test_two_traces_of_a_search_change_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    """The library asks a list of criteria for the class of each, also behind two stand-ins."""
    model, inputs = tiny_model(), batch(2)
    untraced = search(model, inputs, **settings)
    with trace(model, path=tmp_path / "a") as one, trace(model, path=tmp_path / "b") as other:
        assert_same(search(model, inputs, **settings), untraced)
    for session, name in ((one, "a"), (other, "b")):
        assert not session.violated
        assert check_file(tmp_path / name).whole
    with trace(model, path=tmp_path / "a", force=True), trace(model, path=tmp_path / "b", force=True):
        search(model, inputs, **{**settings, "eos_token_id": None, "pad_token_id": None})


class _Nothing(LogitsProcessor):  # type: ignore[misc]
    """Makes the scores of a token NaN, in the first rows."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        found = scores.clone()
        found[: self._rows, 3] = torch.nan
        return found


def test_scores_without_an_order_are_not_checked(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace") as session:
        search(model, batch(2), **BEAMS["greedy"], logits_processor=[_Nothing(6)])
    assert not session.violated
    with open_trace(tmp_path / "run.trace") as recording:
        checks = [each for step in recording.steps for each in step.head.checks if each.name == "beams"]
    assert {each.reason for each in checks} == {"scores are NaN, which have no order"}
    assert check_file(tmp_path / "run.trace").whole


def test_rows_with_an_order_are_checked_beside_one_without() -> None:
    model, settings = tiny_model(), {**BEAMS["greedy"], "num_beams": 3}
    with collected(model) as run:
        search(model, batch(2), **settings, logits_processor=[_Nothing(3)])
    assert run.problems() == []
    checks = [each for step in run.steps for each in step.head.checks if each.name == "beams"]
    assert {(each.held, each.checked, each.total) for each in checks} == {(True, 1, 2)}
