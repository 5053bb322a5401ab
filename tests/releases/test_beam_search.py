"""Beam search without a scorer, whose decisions are made in methods of the model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationMixin

from tests.hooks.decoding.test_beam_search import assert_same
from tests.hooks.test_unchanged import attributes
from tests.releases.architectures import architecture
from tests.support.decoding import BEAMS, search
from tests.support.models import EOS, batch, collected, tiny_model
from tracer import open_trace, trace
from tracer.errors import UnsupportedError, UsageError
from tracer.library.loops.beam_search import CONTINUATIONS, FINISHED, IMPROVABLE, RUNNING, UNFINISHED
from tracer.library.release import installed_release
from tracer.schema.beams import BeamRow
from tracer.tracefile import check_file

LOOP = installed_release().loop_of("beam_search")
pytestmark = pytest.mark.skipif(LOOP is None or not LOOP.helpers, reason="this release has a beam scorer")

ENDING: dict[str, Any] = {**BEAMS["ending"], "max_new_tokens": 10}


def changed(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Any, Any], Any]) -> None:
    """Let a method of the library decide otherwise.

    Args:
        monkeypatch: pytest's.
        name: the method.
        change: called with its arguments and result, returns another result.
    """
    method, static = getattr(GenerationMixin, name), name in (IMPROVABLE, UNFINISHED)

    @functools.wraps(method)  # whose statements are looked for
    def other(*args: Any, **kwargs: Any) -> Any:
        return change(kwargs, method(*args, **kwargs))

    monkeypatch.setattr(GenerationMixin, name, staticmethod(other) if static else other)


def of_another(place: int) -> Callable[[Any, Any], Any]:
    """A result one of whose tensors belongs to the next one of the batch row."""

    def change(_: Any, result: Any) -> Any:
        found = [*result]
        found[place] = found[place].roll(1, dims=1)
        return tuple(found)

    return change


def without_the_best(given: Any, result: Any) -> Any:
    """Continuations whose first was not chosen."""
    scores, sequences, indices = (each.clone() for each in result)
    token = int(given["accumulated_log_probs"].argmin(dim=-1)[0]) % 100
    scores[:, -1] = given["accumulated_log_probs"][:, token]
    for whole, at, value in (
        (sequences, given["cur_len"], token),
        (indices, given["cur_len"] - given["decoder_prompt_len"], 0),
    ):
        whole[:, -1, at] = value
    return scores, sequences, indices


def one_dropped(_: Any, result: Any) -> Any:
    """Hypotheses of which the best has become a mere place for one."""
    sequences, values, indices, finished = (each.clone() for each in result)
    values[:, 0], finished[:, 0] = -1e9, False
    return sequences, values, indices, finished


DECISIONS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "scores of other continuations": (CONTINUATIONS, of_another(0)),
    "a worse continuation": (CONTINUATIONS, without_the_best),
    "scores of other beams": (RUNNING, of_another(1)),
    "beams of other rows": (RUNNING, of_another(2)),
    "values of other hypotheses": (FINISHED, of_another(1)),
    "a hypothesis dropped": (FINISHED, one_dropped),
    "a row done too early": (IMPROVABLE, lambda _, result: torch.zeros_like(result)),
    "a search over too early": (UNFINISHED, lambda _, result: torch.zeros_like(result)),
}


@pytest.mark.parametrize("which", DECISIONS)
def test_another_decision_than_the_rules_lead_to_is_seen(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, *DECISIONS[which])
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(1), **ENDING)
    failed = {check.name for step in run.steps for check in step.head.checks if check.failed}
    assert "beams" in failed


def rows(run: Any) -> list[BeamRow]:
    return [row for step in run.steps for row in step.head.beams.rows]


def test_what_is_not_kept_says_why() -> None:
    model = tiny_model()
    settings: dict[str, Any] = {"num_beams": 2, "do_sample": False, "early_stopping": True}
    with collected(model) as run:
        search(model, batch(3), **settings, eos_token_id=[*range(20, 45)], max_new_tokens=12)
    found = rows(run)
    fates = {each.fate for row in found for each in row.continuations}
    assert {"beam", "hypothesis", "too late", "closed", "cut"} <= fates
    for row in found:
        for each in row.continuations:
            assert bool(each.criteria) == (each.fate not in ("beam", "cut"))
            assert each.fate != "beam" or each.row is not None
    assert run.problems() == []


def test_a_criterion_of_the_programs_own_ends_a_continuation() -> None:
    model = tiny_model()

    def odd(input_ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        return input_ids[:, -1] % 4 == 1

    untraced = search(model, batch(2), **BEAMS["greedy"], stopping_criteria=[odd])
    with collected(model) as run:
        found = search(model, batch(2), **BEAMS["greedy"], stopping_criteria=[odd])
    assert torch.equal(found.sequences, untraced.sequences)
    assert run.problems() == []
    assert run.header.criteria[-1].class_name == "function"
    own = len(run.header.criteria) - 1
    ended = [each for row in rows(run) for each in row.continuations if own in each.criteria]
    assert ended
    assert all(each.token % 4 == 1 and each.fate not in ("beam", "cut") for each in ended)


def test_rows_have_the_answers_about_what_they_go_on_with() -> None:
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(2), **BEAMS["greedy"], max_new_tokens=3)
    fired = [{each.index: each.fired for each in step.head.criteria} for step in run.steps]
    assert [each[0] for each in fired] == [(), (), tuple(range(6))]
    assert [len(step.head.unfinished) for step in run.steps] == [6, 6, 0]


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("mode", ["greedy", "ending", "several"])
def test_a_search_that_is_ended_returns_what_a_criterion_would_have_it_return(
    mode: str, number: int, tmp_path: Path
) -> None:
    model, inputs = tiny_model(), batch(2)
    length = inputs["input_ids"].shape[1] + number

    def over(input_ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), input_ids.shape[1] >= length)

    expected = search(model, inputs, **BEAMS[mode], stopping_criteria=[over])
    # Another trace of the same run sees it end too, and ends none itself.
    with (
        trace(model, path=tmp_path / "t", breaks=[f"step == {number}"], on_break="stop"),
        trace(model, path=tmp_path / "other"),
    ):
        found = search(model, inputs, **BEAMS[mode])
    assert torch.equal(found.sequences, expected.sequences)
    assert torch.equal(found.sequences_scores, expected.sequences_scores)
    assert torch.equal(found.beam_indices, expected.beam_indices)
    for name in ("t", "other"):
        assert check_file(tmp_path / name).whole
        with open_trace(tmp_path / name) as recording:
            assert not [check for step in recording.steps for check in step.head.checks if check.failed]
    with open_trace(tmp_path / "t") as recording:
        assert len(recording.steps) == number
        assert recording.end is not None
        assert recording.end.beams is not None
        best = [row.hypotheses[each] for row in recording.end.beams.rows for each in row.returned]
    assert [each.value for each in best] == pytest.approx(found.sequences_scores.tolist(), rel=1e-6)


@pytest.mark.parametrize("cache", ["static", "dynamic"])
@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_each_kind_of_cache(name: str, cache: str) -> None:
    model, inputs = architecture(name), batch(3)
    settings = {**BEAMS["greedy"], "cache_implementation": cache}
    untraced = search(model, inputs, **settings)
    before = attributes(model)
    with collected(model) as run:
        found = search(model, inputs, **settings)
    assert attributes(model) == before
    assert torch.equal(found.sequences, untraced.sequences)
    assert torch.equal(found.sequences_scores, untraced.sequences_scores)
    assert run.problems() == []


def test_without_a_cache_there_is_nothing_to_reorder() -> None:
    model, inputs = tiny_model(), batch(2)
    untraced = search(model, inputs, **BEAMS["greedy"], use_cache=False)
    with collected(model) as run:
        found = search(model, inputs, **BEAMS["greedy"], use_cache=False)
    assert torch.equal(found.sequences, untraced.sequences)
    assert run.problems() == []


@pytest.mark.parametrize("name", [RUNNING, UNFINISHED])
@pytest.mark.parametrize("of", ["model", "class"])
def test_methods_of_ones_own_are_refused_by_name(name: str, of: str) -> None:
    model = tiny_model()
    if of == "model":
        setattr(model, name, lambda *_args, **_kwargs: None)
    else:
        model.__class__ = type("Own", (type(model),), {name: lambda *_args, **_kwargs: None})
    with collected(model) as run, pytest.raises(UnsupportedError, match=name):
        search(model, batch(), num_beams=2)
    assert run.headers == []


def test_one_token_ends_all_beams_at_once() -> None:
    """All continuations end: the rows are filled with those that did."""
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(1), **BEAMS["greedy"], eos_token_id=[EOS, *range(98)], max_new_tokens=4)
    assert run.problems() == []
    (last,) = run.steps[-1].head.beams.rows  # type: ignore[union-attr]
    assert last.done or run.ends[0].steps == len(run.steps)


EMPTY: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 3,
    "num_return_sequences": 3,
    "length_penalty": 0.0,
    "prefix_allowed_tokens_fn": lambda _, ids: [4 + len(ids)] if len(ids) < 9 else [EOS],
}
"""Of the sequences allowed there is one: two places are returned that no hypothesis has taken."""


def test_places_without_a_hypothesis_are_returned_too(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(2)
    untraced = search(model, inputs, **EMPTY)
    with trace(model, path=tmp_path / "run.trace") as session:
        assert_same(search(model, inputs, **EMPTY), untraced)
    assert not session.violated
    assert check_file(tmp_path / "run.trace").whole
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.end is not None
        assert len(recording.end.sequences) == 6
        with pytest.raises(UnsupportedError, match="equal values"):
            recording.whatif_beams(length_penalty=2.0)


def test_a_length_penalty_that_no_float_holds_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace"):
        search(model, batch(1), **BEAMS["greedy"])
    with (
        open_trace(tmp_path / "run.trace") as recording,
        pytest.raises(UsageError, match="too large for a sequence"),
    ):
        recording.whatif_beams(length_penalty=1e300)
