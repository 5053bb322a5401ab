"""What other settings would have kept of a beam search, against a run with these settings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.decoding import BEAMS, search
from tests.support.models import EOS, VOCAB, CollectedRun, batch, collected, tiny_model
from tracer.analysis.whatif.beams import BeamSettings, beam_whatif
from tracer.errors import UsageError
from tracer.schema.beams import BeamOutcome, Hypothesis

PENALTIES = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])
STOPPING = st.sampled_from(["True", "False", "never"])


class Read:
    """A run that was collected, as an analysis reads it."""

    def __init__(self, run: CollectedRun) -> None:
        self.header, self.steps, self.end = run.header, run.steps, run.ends[0]


def returned(outcome: BeamOutcome) -> list[tuple[int, int, int | None]]:
    found = [outcome.hypotheses[number] for number in outcome.returned]
    return [(each.step, each.row, each.token) for each in found]


def recorded(rows: int, seed: int, **arguments: Any) -> tuple[Read, Any]:
    model = tiny_model(seed=seed)
    with collected(model) as run:
        found = search(model, batch(rows), seed, **arguments)
    assert run.problems() == []
    return Read(run), found


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_what_is_said_is_what_a_run_with_the_settings_comes_to(data: st.DataObject) -> None:
    rows, seed, beams = data.draw(st.sampled_from([1, 3])), data.draw(st.integers(0, 3)), 3
    ends = data.draw(st.integers(0, 60))
    common: dict[str, Any] = {
        "num_beams": beams,
        "do_sample": False,
        "eos_token_id": [EOS, *range(VOCAB - 2, VOCAB - 2 - ends, -1)],
        "max_new_tokens": data.draw(st.integers(1, 8)),
    }
    was, then = (
        dict[str, Any]()
        | {
            "length_penalty": data.draw(PENALTIES),
            "early_stopping": data.draw(STOPPING),
            "num_return_sequences": data.draw(st.integers(1, beams)),
        }
        for _ in range(2)
    )
    value: dict[str, Any] = {"True": True, "False": False, "never": "never"}
    run, _ = recorded(rows, seed, **common, **{**was, "early_stopping": value[was["early_stopping"]]})
    other, found = recorded(rows, seed, **common, **{**then, "early_stopping": value[then["early_stopping"]]})
    report = beam_whatif(run, BeamSettings(**then))  # type: ignore[arg-type]
    assert other.end.beams is not None
    assert run.end.beams is not None
    for row, (outcome, part, real, was_kept) in enumerate(
        zip(report.rows, report.parts, other.end.beams.rows, run.end.beams.rows, strict=True)
    ):
        if outcome is None:
            assert part is not None
            assert part <= len(other.steps)
            continue
        assert returned(outcome) == returned(real)
        same = returned(real)[:1] == returned(was_kept)[:1]
        assert report.same[row] == same
        assert [outcome.hypotheses[each].value for each in outcome.returned] == [
            real.hypotheses[each].value for each in real.returned
        ]
    if report.exact and report.steps is not None:
        assert report.steps == len(other.steps)
    assert len(found.sequences) == rows * then["num_return_sequences"]


GROUPED: dict[str, Any] = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7}
FORCED: dict[str, Any] = {"num_beams": 3, "force_words_ids": [[30, 31]]}


@pytest.mark.reference_only
@pytest.mark.parametrize("mode", [GROUPED, FORCED], ids=["groups", "constrained"])
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_groups_and_constraints_too(mode: dict[str, Any], data: st.DataObject) -> None:
    ends = data.draw(st.integers(0, 60))
    common: dict[str, Any] = {
        **mode,
        "do_sample": False,
        "eos_token_id": [EOS, *range(VOCAB - 2, VOCAB - 2 - ends, -1)],
        "max_new_tokens": data.draw(st.integers(1, 9)),
    }
    value: dict[str, Any] = {"True": True, "False": False, "never": "never"}
    was, then = ((data.draw(PENALTIES), data.draw(STOPPING), data.draw(st.integers(1, 3))) for _ in range(2))
    rows, seed = data.draw(st.sampled_from([1, 3])), data.draw(st.integers(0, 3))
    run, other = (
        collected_by(rows, seed, common, {"length_penalty": a, "early_stopping": value[b]}, c)
        for a, b, c in (was, then)
    )
    if run is None or other is None:
        return
    report = beam_whatif(run, BeamSettings(*then))  # type: ignore[arg-type]
    assert other.end.beams is not None
    for outcome, part, real in zip(report.rows, report.parts, other.end.beams.rows, strict=True):
        assert (outcome is None) == (part is not None)
        if outcome is not None:
            assert unnumbered(outcome) == unnumbered(real)
    if report.exact and report.steps is not None:
        assert report.steps == len(other.steps)


def unnumbered(outcome: BeamOutcome) -> list[Hypothesis]:
    """The hypotheses returned, best first."""
    found = (outcome.hypotheses[each] for each in outcome.returned)
    return [each.model_copy(update={"number": 0}) for each in found]


def collected_by(rows: int, seed: int, common: Any, changed: Any, returned: int) -> Read | None:
    """A run; None where the library itself fails, for want of beam indices or of hypotheses."""
    model = tiny_model(seed=seed)
    with collected(model) as run:
        try:
            search(model, batch(rows), seed, **common, **changed, num_return_sequences=returned)
        except (RuntimeError, TypeError, IndexError):
            return None
    assert run.problems() == []
    return Read(run)


@pytest.mark.reference_only
def test_a_later_group_goes_on_as_recorded_only_while_earlier_ones_end_where_they_did() -> None:
    exact, parted = 0, 0
    for seed in range(6):
        ending = {**GROUPED, "eos_token_id": [*range(20, 60)], "max_new_tokens": 8}
        run = collected_by(1, seed, ending, {"do_sample": False}, 1)
        assert run is not None
        for stopping in ("True", "never"):
            report = beam_whatif(run, BeamSettings(early_stopping=stopping))  # type: ignore[arg-type]
            exact += report.exact
            parted += not report.exact
    assert exact
    assert parted


def test_without_a_change_everything_is_the_same() -> None:
    run, _ = recorded(3, 1, **BEAMS["several"])
    report = beam_whatif(run, BeamSettings())  # type: ignore[arg-type]
    assert report.exact
    assert report.same == (True, True, True)
    assert report.steps == len(run.steps)


def test_more_sequences_than_beams_are_not_possible() -> None:
    run, _ = recorded(1, 1, **BEAMS["greedy"])
    with pytest.raises(UsageError, match="from 1 to num_beams, which is 3"):
        beam_whatif(run, BeamSettings(num_return_sequences=4))  # type: ignore[arg-type]
