"""Why this token, and why not that one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hooks.scores.replay import TorchReplayer
from tests.support.models import GREEDY, SAMPLING, batch
from tests.support.synthetic import synthetic_header, synthetic_steps, synthetic_tokens
from tests.tracer.analysis.library import Case, cases, transformers_stages, usual, warper
from tests.tracer.analysis.records import recorded
from tests.tracer.analysis.runs import MemoryRun, real_run
from tracer.analysis.processors.edits import RepetitionPenalty, Suppress, Temperature
from tracer.analysis.processors.filters import MinP, TopK, TopP
from tracer.analysis.processors.parsing import parse_processors
from tracer.analysis.processors.processor import Context, PlacedProcessor, Processor, ScoreRow, final_row
from tracer.analysis.processors.settings import Settings, change_processors
from tracer.analysis.why import why, why_in_run
from tracer.analysis.why.report import Change, WhyReport
from tracer.errors import UsageError
from tracer.schema.changes import Intervention
from tracer.schema.run import ProcessorInfo

REPLAYER = TorchReplayer()
PENALTY, TEMPERATURE, TOP_K, TOP_P = 1, 2, 3, 4


def walkthrough_case() -> Case:
    """The reference figures: A and Large at 25.125 and 24.125, then eighteen more, then the rest."""
    logits = np.full(2048, -2.0, dtype=np.float32)
    logits[32], logits[342] = 25.125, 24.125
    logits[100:118] = np.linspace(22.0, 18.0, 18, dtype=np.float32)
    logits[500:600] = np.linspace(17.5, 3.0, 100, dtype=np.float32)
    processors: list[Processor] = [RepetitionPenalty(1.05), Temperature(0.7), TopK(20), TopP(0.8)]
    placed = (PlacedProcessor("processor", processors[0]), *map(warper, processors[1:]))
    return Case(logits, np.array([9000 % 2048, 7]), placed)


@pytest.fixture(params=["saved logits", "recorded scores"])
def walkthrough(request: pytest.FixtureRequest) -> MemoryRun:
    return recorded(walkthrough_case(), save=request.param == "saved logits")


def test_the_walkthrough_is_as_it_was(walkthrough: MemoryRun) -> None:
    shares = [round(candidate.probability, 4) for candidate in walkthrough.steps[0].candidates]
    assert shares == [0.8067, 0.1933]


def test_outside_the_top_20_it_was_top_k(walkthrough: MemoryRun) -> None:
    report = why_in_run(walkthrough, 1, 500)
    assert report.verdict == "removed"
    assert report.removed_by is not None
    assert report.removed_by.class_name == "TopKLogitsWarper"
    assert report.remover == TOP_K
    cut = report.removed_by.cut
    assert cut is not None
    assert report.removed_by.cut_exact
    assert cut.limit == pytest.approx(18 / 0.7, rel=1e-6)
    assert cut.margin == pytest.approx((17.5 - 18) / 0.7, rel=1e-5)
    assert report.stages[0].rank is not None
    assert (report.stages[0].rank.value, report.stages[0].rank.exact) == (21, True)
    assert [stage.kept for stage in report.stages] == [2048, 2048, 2048, 20, 2]
    assert report.probability == 0


def test_at_rank_3_it_was_top_p(walkthrough: MemoryRun) -> None:
    report = why_in_run(walkthrough, 1, 100)
    assert report.remover == TOP_P
    assert report.removed_by is not None
    cut = report.removed_by.cut
    assert cut is not None
    assert report.removed_by.cut_exact
    scores = np.sort(walkthrough_case().logits)[::-1][:20].astype(np.float64) / 0.7
    shares = np.exp(scores - scores[0]) / np.exp(scores - scores[0]).sum()
    assert cut.measure == "probability above"
    assert cut.value == pytest.approx(shares[:2].sum(), rel=1e-5)
    assert cut.margin == pytest.approx(0.8 - shares[:2].sum(), rel=1e-5)
    assert cut.score_margin == pytest.approx((22 - 24.125) / 0.7, rel=1e-5)
    rank = report.stages[TOP_K].rank
    assert rank is not None
    assert rank.value == 3
    kept = {change.setting: change.needed for change in report.changes_for("kept")}
    above = float(shares[:2].sum())
    assert kept["top_p"] is not None
    assert above <= kept["top_p"] <= above + 2e-4
    assert kept["temperature"] is not None
    assert kept["temperature"] > 0.7
    assert kept["top_k"] is None
    assert kept["repetition_penalty"] is None
    assert kept["min_p"] is None


def test_what_lost_and_what_won(walkthrough: MemoryRun) -> None:
    tokens = {32, 342}
    chosen = walkthrough.steps[0].choice()
    assert chosen is not None
    (other,) = tokens - {chosen.token}
    assert why_in_run(walkthrough, 1, chosen.token).verdict == "chosen"
    report = why_in_run(walkthrough, 1, other)
    assert report.verdict == "lost the draw"
    assert report.remover is None
    large = why_in_run(walkthrough, 1, 342)
    assert large.changes_for("kept") == ()
    assert all(change.needed is None for change in large.changes_for("greedy"))  # it is not in the history


def test_a_seen_token_becomes_greedy_with_a_lower_penalty() -> None:
    case = walkthrough_case()
    run = recorded(
        Case(case.logits, np.array([32, 7]), case.placed)
    )  # A is penalised: 25.125 / 1.05 < 24.125
    report = why_in_run(run, 1, 32)
    (change,) = [each for each in report.changes_for("greedy") if each.needed is not None]
    assert change.setting == "repetition_penalty"
    assert change.needed == pytest.approx(25.125 / 24.125, abs=2e-3)
    assert change.exact


def test_not_recorded_and_no_logits() -> None:
    run = recorded(walkthrough_case(), save=False)
    report = why_in_run(run, 1, 1)  # among the many at -2
    assert report.source == "bounds"
    assert any("--save logits" in note for note in report.notes)
    assert report.stages[0].score is None
    assert report.stages[0].at_most == pytest.approx(float(np.sort(walkthrough_case().logits)[-64]))
    # All that is left is recorded, and nobody was removed before: it was top-k all the same.
    assert report.verdict == "removed"
    assert report.remover == TOP_K
    assert report.probability == 0
    assert report.changes == ()


def test_nothing_can_be_said_where_more_is_left_than_recorded() -> None:
    case = walkthrough_case()
    run = recorded(Case(case.logits, case.history, case.placed[:2]), save=False)
    report = why_in_run(run, 1, 1)
    assert report.verdict == "unknown"
    assert report.remover is None
    assert report.probability is None


def first_stage_gone(case: Case, token: int) -> int | None:
    stages = [case.logits, *transformers_stages(case)]
    return next(
        (i for i in range(1, len(stages)) if stages[i][token] == -np.inf < stages[i - 1][token]), None
    )


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(cases(usual()), st.data())
def test_remover_scores_and_probability_are_transformers_own(case: Case, data: st.DataObject) -> None:
    assume(case.logits.max() > -np.inf)
    token = data.draw(st.integers(0, case.logits.size - 1))
    stages = [case.logits, *transformers_stages(case)]
    share = float(torch.softmax(torch.from_numpy(stages[-1]), -1)[token])
    for run, replayer in (
        (recorded(case), REPLAYER),
        (recorded(case), None),
        (recorded(case, save=False), None),
    ):
        report = quick(run, token, replayer)
        doubtful = any("rounding" in note for note in report.notes)
        if report.remover is not None or report.source != "bounds":
            assert report.remover == first_stage_gone(case, token) or doubtful
        for view, scores in zip(report.stages, stages, strict=True):
            assert view.score is None or view.score == scores[token] or doubtful
            if view.rank is not None and not doubtful:
                rank = 1 + int(np.count_nonzero(scores > scores[token]))
                assert view.rank.value == rank if view.rank.exact else view.rank.value <= rank
                assert view.rank.at_most is None or view.rank.at_most >= rank
        if report.probability is not None and not doubtful:
            assert report.probability == pytest.approx(share, rel=1e-4, abs=1e-30)


@settings(max_examples=300, deadline=None)
@given(cases(usual()), st.data(), st.integers(1, 64))
def test_lines_without_logits_are_those_with_them_where_they_are_called_exact(
    case: Case, data: st.DataObject, cap: int
) -> None:
    assume(case.logits.max() > -np.inf)
    token = data.draw(st.sampled_from(recorded_tokens(case, cap)))
    full = why_in_run(recorded(case, cap=cap), 1, token, replayer=REPLAYER, search=False)
    bare = why_in_run(recorded(case, cap=cap, save=False), 1, token, search=False)
    assert [view.score for view in bare.stages] == [view.score for view in full.stages]
    assert bare.remover == full.remover
    for ours, theirs in zip(bare.stages, full.stages, strict=True):
        if ours.cut is not None and theirs.cut is not None and ours.cut_exact:
            assert ours.cut.limit == pytest.approx(theirs.cut.limit, rel=1e-5, abs=1e-30)
            assert ours.cut.margin == pytest.approx(theirs.cut.margin, rel=1e-5, abs=1e-6)
        if ours.rank is not None and theirs.rank is not None:
            assert ours.rank.value <= theirs.rank.value
            assert not ours.rank.exact or ours.rank == replace(theirs.rank, at_most=ours.rank.at_most)


def recorded_tokens(case: Case, cap: int) -> list[int]:
    columns = recorded(case, cap=cap).steps[0].scores
    assert columns is not None
    return [int(token) for token in columns.tokens[0] if token >= 0]


def quick(run: MemoryRun, token: int, replayer: TorchReplayer | None) -> WhyReport:
    """Without the search for changes, which has tests of its own."""
    finished = run.steps[0].scores
    assert finished is not None
    report = why_in_run(run, 1, token, replayer=replayer, search=False)
    assert report.chosen == int(finished.chosen[0])
    return report


@settings(max_examples=150, deadline=None)
@given(cases(usual()), st.data(), st.booleans())
def test_changes_hold_with_transformers_and_are_the_nearest(
    case: Case, data: st.DataObject, save: bool
) -> None:
    assume(case.logits.max() > -np.inf)
    token = data.draw(st.integers(0, case.logits.size - 1))
    report = why_in_run(recorded(case, save=save), 1, token)
    for change in report.changes:
        if change.needed is None or not change.exact:
            continue
        assert reached(case, token, change, change.needed)
        beside = neighbour(change)
        if beside is not None:
            assert not reached(case, token, change, beside) or near_doubt(case, token, change, beside)


UNITS = {"top_k": 1.0, "top_p": 1e-4, "temperature": 1e-3, "min_p": 1e-5, "repetition_penalty": 1e-3}


def neighbour(change: Change) -> float | None:
    """The value one unit nearer to the one in force; None where that is in between."""
    assert change.needed is not None
    unit = UNITS[change.setting]
    if abs(change.needed - change.now) <= unit:
        return None
    return round(change.needed - math.copysign(unit, change.needed - change.now), 6)


def with_setting(case: Case, change: Change, value: float) -> Case:
    setting = Settings(**{change.setting: int(value) if change.setting == "top_k" else value})  # type: ignore[arg-type]
    return replace(case, placed=change_processors(case.placed, setting, do_sample=True)[0])


def reached(case: Case, token: int, change: Change, value: float) -> bool:
    changed = with_setting(case, change, value)
    final = (transformers_stages(changed) or [case.logits])[-1]
    return bool(final[token] > -np.inf) and (change.goal == "kept" or int(final.argmax()) == token)


def near_doubt(case: Case, token: int, change: Change, value: float) -> bool:
    placed = with_setting(case, change, value).placed
    return token in final_row(placed, ScoreRow(case.logits), Context(case.history)).doubtful


def test_a_real_run_in_every_step_and_row() -> None:
    run = real_run(inputs=batch(3), **SAMPLING)
    for step in run.steps:
        assert step.scores is not None
        for row in range(3):
            chosen = int(step.scores.chosen[row])
            report = why_in_run(run, step.number, chosen, row, replayer=REPLAYER)
            assert report.verdict == ("padding" if step.scores.finished[row] else "chosen")
            assert report.notes == ()
            assert step.scores.finished[row] or report.stages[-1].rank is not None
            bare = why_in_run(run.without(), step.number, chosen, row)
            assert [view.score for view in bare.stages] == [view.score for view in report.stages]
            assert bare.probability == report.probability


def test_greedy() -> None:
    run = real_run(**GREEDY)
    step = run.steps[0]
    assert step.scores is not None
    second = next(int(token) for token in step.scores.tokens[0] if token != step.scores.chosen[0])
    report = why_in_run(run, 1, second)
    assert report.verdict == "not the highest score"
    assert report.changes_for("kept") == ()
    reasons = {change.setting: change.reason for change in report.changes_for("greedy")}
    assert "greedy" in reasons["top_k"]


def test_a_banned_token_has_no_margin_and_no_change() -> None:
    case = walkthrough_case()
    placed = (PlacedProcessor("processor", Suppress((32,))), *case.placed)
    report = why_in_run(recorded(Case(case.logits, case.history, placed)), 1, 32)
    assert report.removed_by is not None
    assert report.removed_by.class_name == "SuppressTokensLogitsProcessor"
    assert report.removed_by.cut is None
    assert all(change.needed is None for change in report.changes)


def test_a_processor_of_the_users_own() -> None:
    case = walkthrough_case()
    run = recorded(case)
    own = ProcessorInfo(list_name="logits_processor", class_name="Mine", settings={})
    infos = (own, *run.header.processors[1:])
    changed = MemoryRun(run.header.model_copy(update={"processors": infos}), run.steps, saved=run.saved)
    report = why_in_run(changed, 1, 100)
    assert report.remover == TOP_P
    assert {change.setting for change in report.changes if change.needed is not None} == {
        "top_p",
        "temperature",
    }
    assert isinstance(parse_processors(changed.header)[0].processor, object)


def test_min_p() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05])).astype(np.float32)
    run = recorded(Case(logits, np.array([0]), (warper(MinP(0.4)),)))
    report = why_in_run(run, 1, 2)
    assert report.remover == 1
    needed = {change.setting: change.needed for change in report.changes_for("kept")}
    assert needed["min_p"] == pytest.approx(0.3, abs=2e-5)
    assert needed["top_p"] is None


def test_synthetic_steps_and_texts() -> None:
    header, tokens = synthetic_header(rows=2), synthetic_tokens()
    step = next(synthetic_steps(header, 1))
    report = why(header, step, 41, 1, tokens=tokens)
    assert (report.text, report.chosen_text) == (" word41", " word11")
    assert report.verdict == "lost the draw"


def test_what_the_user_changed_is_said() -> None:
    run = recorded(walkthrough_case())
    head = run.steps[0].head.model_copy(update={"interventions": (Intervention(kind="force", detail="32"),)})
    report = why(run.header, replace(run.steps[0], head=head), 32)
    assert any("force 32" in note for note in report.notes)


def test_usage() -> None:
    run = recorded(walkthrough_case())
    with pytest.raises(UsageError, match="row 1"):
        why_in_run(run, 1, 0, 1)
    with pytest.raises(UsageError, match="vocabulary"):
        why_in_run(run, 1, 2048)
    with pytest.raises(UsageError, match="step 2"):
        why_in_run(run, 2, 0)
    with pytest.raises(UsageError, match="not recorded"):
        why(run.header, replace(run.steps[0], scores=None), 0)
    with pytest.raises(UsageError, match="shape"):
        why(run.header, run.steps[0], 0, logits=np.zeros(3, dtype=np.float32))
    header = synthetic_header()
    second = list(synthetic_steps(header, 2))[1]
    with pytest.raises(UsageError, match="ids before step 2"):
        why(header, second, 0)


def test_saved_logits_of_another_run_are_noticed() -> None:
    case = walkthrough_case()
    run = recorded(case)
    run.saved = {1: {"logits": case.logits[None] + 1}}
    assert any("differ at stage 0" in note for note in why_in_run(run, 1, 32).notes)


def test_single_token_vocabulary() -> None:
    run = recorded(Case(np.zeros(1, dtype=np.float32), np.array([0]), (warper(TopK(3)), warper(TopP(0.1)))))
    report = why_in_run(run, 1, 0)
    assert (report.verdict, report.probability, report.changes) == ("chosen", 1.0, ())
