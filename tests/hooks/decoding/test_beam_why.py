"""``why`` of continuations in group and constrained search."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.view.questions.why import why_view
from tests.support.decoding import CONSTRAINED, GROUPS, search
from tests.support.models import batch, tiny_model
from tests.support.reading import opened_once
from tracer import trace
from tracer.analysis.why.answer import why_in_run
from tracer.analysis.why.report import WhyReport
from tracer.reading.recording import Recording
from tracer.schema.beams import BeamRow, Continuation
from tracer.schema.step import Step

pytestmark = pytest.mark.reference_only

MODES: dict[str, dict[str, Any]] = {
    "groups": GROUPS["two"],
    "penalised": {**GROUPS["two"], "repetition_penalty": 1.3},
    "constrained": CONSTRAINED["two"],
    "plain": {"do_sample": False, "num_beams": 3, "force_words_ids": [[30, 31], [40]]},
}


def recorded(mode: str, path: Path, **options: Any) -> Path:
    """A run of which few tokens of each row are recorded."""
    model = tiny_model()
    with trace(model, path=path, candidates=3, **options):
        search(model, batch(3), **MODES[mode])
    return path


def asked(recording: Recording) -> Iterator[tuple[Step, int, Continuation, BeamRow]]:
    """Every continuation, with a row that goes on from the one that it continues."""
    for step in recording.steps:
        assert step.head.beams is not None
        for search_of in step.head.beams.rows:
            for each in search_of.continuations:
                if each.row is not None or each.parent in step.parents:
                    row = step.parents.index(each.parent) if each.row is None else each.row
                    yield step, row, each, search_of


@pytest.mark.parametrize("mode", MODES)
def test_the_score_of_a_continuation_is_known_though_the_token_is_not_listed(
    mode: str, tmp_path: Path
) -> None:
    told = list[WhyReport]()
    with opened_once(recorded(mode, tmp_path / "t")) as recording:
        for step, row, each, _ in asked(recording):
            report = why_in_run(recording.runs[0], step.number, each.token, row, search=False)
            assert report.stages[-1].score == each.log_probability
            assert step.scores is not None
            if each.token not in step.scores.tokens[row]:
                told.append(report)
                assert report.source == "recorded scores"
                known = not step.scores.changed[1:, row].any()
                assert (report.stages[0].score is not None) == known
                assert any("last score of this token alone" in note for note in report.notes) != known
    assert told


@pytest.mark.parametrize("mode", MODES)
def test_ranks_are_those_of_the_whole_scores(mode: str, tmp_path: Path) -> None:
    """Also behind what lets groups pay, of which the record of the processor says nothing."""
    whole = recorded(mode, tmp_path / "whole", capture="tensors", save=["logits"])
    exact = 0
    with opened_once(whole) as full, opened_once(recorded(mode, tmp_path / "few")) as few:
        for step, row, each, _ in asked(few):
            by_logits, by_record = (
                why_in_run(of.runs[0], step.number, each.token, row, search=False) for of in (full, few)
            )
            for known, found in zip(by_logits.stages, by_record.stages, strict=True):
                assert found.score in (None, known.score)
                if found.rank is not None and known.rank is not None:
                    assert known.rank.exact
                    assert found.rank.value <= known.rank.value <= (found.rank.at_most or found.rank.value)
                    behind = found.class_name == "HammingDiversityLogitsProcessor" or not MODES[mode].get(
                        "num_beam_groups"
                    )
                    exact += found.rank.exact and behind and by_record.verdict != "chosen"
    assert exact


def test_saved_logits_lead_to_the_scores_that_groups_have_paid(tmp_path: Path) -> None:
    path = recorded("penalised", tmp_path / "t", capture="tensors", save=["logits"])
    paid = 0
    with opened_once(path) as recording:
        for step, row, each, _ in asked(recording):
            report = why_in_run(recording.runs[0], step.number, each.token, row, search=False)
            scores = step.scores
            assert scores is not None
            for place in np.flatnonzero(scores.tokens[row] == each.token).tolist():
                assert [stage.score for stage in report.stages] == scores.scores[:, row, place].tolist()
            assert not any("differ at stage" in note for note in report.notes)
            paid += bool(each.penalty)
    assert paid


@pytest.mark.parametrize("mode", ["constrained", "plain"])
def test_what_was_forced_says_its_bank_and_by_how_much_it_missed(mode: str, tmp_path: Path) -> None:
    kinds = set()
    with opened_once(recorded(mode, tmp_path / "t")) as recording:
        for step, row, each, search_of in asked(recording):
            report = why_in_run(recording.runs[0], step.number, each.token, row, search=False)
            told = why_view(report, recording.tokens).verdict
            if not each.forced and each.fate != "displaced":
                continue
            assert f"in bank {each.bank}" in told
            going_on = [
                other.score
                for other in search_of.continuations
                if other.bank == each.bank and other.row is not None
            ]
            if each.row is not None:
                kinds.add("chosen" if report.verdict == "chosen" else "other row")
            elif going_on:
                assert f"worth {min(going_on) - each.score:.4f} more" in told
                kinds.add("missed")
            else:
                assert "of which none goes on" in told
                kinds.add("no other")
    assert {"chosen", "missed"} <= kinds
