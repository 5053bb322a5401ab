"""Other settings give what transformers would have given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hooks.scores.replay import TorchReplayer
from tests.support.models import GREEDY, SAMPLING, batch, tiny_model
from tests.tracer.analysis.library import Case, cases, transformers_stages, usual, warper
from tests.tracer.analysis.records import recorded
from tests.tracer.analysis.runs import MemoryRun, real_run
from tracer.analysis.processors.edits import Temperature
from tracer.analysis.processors.filters import MinP, TopK, TopP
from tracer.analysis.processors.parsing import parse_processors
from tracer.analysis.processors.settings import Settings, change_processors
from tracer.analysis.runs import scores_dtype
from tracer.analysis.whatif import whatif, whatif_grid
from tracer.errors import UsageError
from tracer.schema.changes import Intervention
from tracer.schema.run import ProcessorInfo

REPLAYER = TorchReplayer()

changes = st.builds(
    Settings,
    temperature=st.one_of(st.none(), st.sampled_from([0.3, 0.7, 1.0, 2.5])),
    top_k=st.one_of(st.none(), st.integers(0, 40)),
    top_p=st.one_of(st.none(), st.sampled_from([0.1, 0.5, 0.8, 0.95, 1.0])),
    min_p=st.one_of(st.none(), st.sampled_from([0.0, 0.05, 0.3])),
    repetition_penalty=st.one_of(st.none(), st.sampled_from([0.8, 1.0, 1.3])),
    greedy=st.one_of(st.none(), st.booleans()),
)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(cases(usual()), changes)
def test_candidates_and_draw_are_transformers_own(case: Case, changed: Settings) -> None:
    assume(case.logits.max() > -np.inf)
    placed, sampling = change_processors(case.placed, changed, do_sample=True)
    theirs = ([case.logits, *transformers_stages(replace(case, placed=placed))])[-1]
    chances = torch.softmax(torch.from_numpy(theirs)[None], -1)
    token = int(
        torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(case.seed))
        if sampling
        else torch.from_numpy(theirs).argmax()
    )
    for save, replayer in ((True, REPLAYER), (True, None), (False, REPLAYER), (False, None)):
        report = whatif(recorded(case, save=save), changed, replayer=replayer)
        (step,) = report.steps
        assert report.sampling == sampling
        if step.exact:
            assert step.kept == np.count_nonzero(theirs > -np.inf)
            assert step.probability == pytest.approx(float(chances[0, step.recorded]), rel=1e-4, abs=1e-30)
        if step.certain:
            assert step.token == token
        assert not step.certain or step.token is not None
        assert step.reproduced is not False
        if save and replayer is not None:
            assert step.exact
            assert step.certain
            assert (report.first[0].step is None) == (token == step.recorded)


OTHER: list[dict[str, Any]] = [
    {"temperature": 1.5},
    {"top_k": 5},
    {"top_p": 0.3},
    {"min_p": 0.2},
    {"temperature": 0.2, "top_p": 1.0},
    {"repetition_penalty": 1.0},
    {},
]


@pytest.fixture(scope="module")
def run() -> MemoryRun:
    return real_run(inputs=batch(3), seed=5, max_new_tokens=12, **SAMPLING)


@pytest.mark.parametrize("other", OTHER, ids=str)
@pytest.mark.parametrize("saved", [True, False])
def test_a_real_run_with_other_settings(run: MemoryRun, other: dict[str, Any], saved: bool) -> None:
    real = real_run(inputs=batch(3), seed=5, max_new_tokens=12, **{**SAMPLING, **other})
    report = whatif(run if saved else run.without(), Settings(**other), replayer=REPLAYER)
    assert report.notes == ()
    for first in report.first:
        assert first.certain
        pairs = list(zip(run.steps, real.steps, strict=False))
        ends = [(tokens(a)[first.row], tokens(b)[first.row]) for a, b in pairs]
        different = [i for i, (a, b) in enumerate(ends, 1) if a != b]
        assert first.step == (different[0] if different else None)
        if first.step is not None:
            assert (first.recorded, first.token) == ends[first.step - 1]


def tokens(step: Any) -> list[int]:
    return [int(token) for token in step.scores.chosen]


def test_after_the_first_difference_nothing_is_guessed(run: MemoryRun) -> None:
    report = whatif(run, Settings(greedy=True))
    for row in range(3):
        own = [step for step in report.steps if step.row == row]
        place = next(i for i, step in enumerate(own) if step.same is False)
        assert all(step.token is None and step.diverged and step.reason for step in own[place + 1 :])
        assert all(step.token is not None for step in own[: place + 1])
    assert report.first_step == min(first.step for first in report.first if first.step is not None)


def test_without_torch_a_draw_is_known_where_it_is_certain(run: MemoryRun) -> None:
    report = whatif(run, Settings())
    assert all(step.certain and step.same for step in report.steps)
    sharp = whatif(run, Settings(top_k=1))
    assert sharp.first[0].step is not None
    assert sharp.first[0].certain
    open_ = whatif(run, Settings(temperature=0.9))
    unknown = [step for step in open_.steps if step.token is None and not step.diverged]
    assert unknown
    assert all("torch" in step.reason for step in unknown)
    assert open_.first[0].unknown_from is not None


def test_estimates_are_labelled() -> None:
    run = real_run(do_sample=True, top_k=0, temperature=0.9, candidates=8, seed=3)
    assert whatif(run, Settings(top_p=0.9), replayer=REPLAYER).exact
    bare = run.without()
    estimate = whatif(bare, Settings(top_p=0.9), replayer=REPLAYER)
    assert not estimate.exact
    assert not any(step.exact or step.certain for step in estimate.steps)
    assert whatif(bare, Settings(top_k=5)).exact  # the eight highest were recorded
    assert not whatif(bare, Settings(top_k=9)).exact
    assert whatif(bare, Settings(greedy=True)).first[0].certain
    greedy = whatif(bare, Settings(greedy=True)).steps[0]
    assert greedy.certain
    assert not greedy.exact


def test_greedy_runs() -> None:
    run = real_run(**GREEDY)
    useless = whatif(run, Settings(temperature=2.0))
    assert useless.first_step is None
    assert "temperature" in useless.notes[0]
    sampled = whatif(run, Settings(greedy=False, temperature=2.0), replayer=REPLAYER)
    assert sampled.sampling
    assert sampled.steps[0].token is None
    assert "no random state" in sampled.steps[0].reason
    assert sampled.first[0].unknown_from == 1
    assert not sampled.first[0].certain


def test_finished_rows_are_left_out(run: MemoryRun) -> None:
    report = whatif(run, Settings())
    assert len(report.steps) == sum(
        int((~step.scores.finished).sum()) for step in run.steps if step.scores is not None
    )


def test_grid(run: MemoryRun) -> None:
    reports = whatif_grid(run, {"temperature": [0.5, 1.5], "top_k": [3, 10]}, replayer=REPLAYER)
    assert [report.settings.changes for report in reports] == [
        {"temperature": 0.5, "top_k": 3},
        {"temperature": 0.5, "top_k": 10},
        {"temperature": 1.5, "top_k": 3},
        {"temperature": 1.5, "top_k": 10},
    ]
    assert reports[0].mean_entropy < reports[3].mean_entropy
    assert reports[0].mean_kept <= reports[3].mean_kept
    with pytest.raises(UsageError, match="unknown setting"):
        whatif_grid(run, {"beams": [2]})


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": -0.1},
        {"repetition_penalty": 0.0},
        {"temperature": float("nan")},
    ],
)
def test_impossible_settings(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="not possible"):
        Settings(**bad)


def placed_names(settings_: dict[str, Any], changed: dict[str, Any]) -> list[str]:
    """What our change of the settings gives, checked against what generate() itself builds."""
    run = real_run(max_new_tokens=1, **settings_)
    changed = {name: value for name, value in changed.items() if name != "do_sample"}
    placed, _ = change_processors(
        parse_processors(run.header), Settings(**changed), do_sample=run.header.do_sample
    )
    real = real_run(max_new_tokens=1, **{**settings_, **changed})
    assert placed == parse_processors(real.header)
    return [each.name for each in placed]


@pytest.mark.parametrize(
    "changed",
    [
        *OTHER,
        {"typical_p": 0.5, "top_k": 0},
        {"epsilon_cutoff": 0.01},
        {"eta_cutoff": 0.01, "temperature": 1.0},
    ],
)
@pytest.mark.parametrize(
    "base",
    [
        {"do_sample": True, "top_k": 0},
        SAMPLING,
        {**SAMPLING, "min_p": 0.1, "typical_p": 0.9, "renormalize_logits": True, "no_repeat_ngram_size": 3},
        {"do_sample": True, "sequence_bias": {(3,): 1.0}, "min_new_tokens": 1},
    ],
    ids=str,
)
def test_processors_stand_where_generate_puts_them(base: dict[str, Any], changed: dict[str, Any]) -> None:
    placed_names(base, changed)


def test_a_custom_processor_before_what_changes() -> None:
    case = Case(
        np.linspace(-3, 5, 40).astype(np.float32),
        np.array([1]),
        (warper(Temperature(0.5)), warper(TopK(8)), warper(TopP(0.9))),
    )
    run = recorded(case)
    own = ProcessorInfo(list_name="logits_warper", class_name="Mine", settings={})
    infos = (own, *run.header.processors[1:])
    custom = replace(run, header=run.header.model_copy(update={"processors": infos}))
    after = whatif(custom, Settings(top_p=0.4), replayer=REPLAYER)
    assert after.exact
    assert after.steps[0].kept == whatif(run, Settings(top_p=0.4), replayer=REPLAYER).steps[0].kept
    before = whatif(custom, Settings(repetition_penalty=1.2), replayer=REPLAYER)
    assert before.steps[0].token is None
    assert "not enough" in before.steps[0].reason
    assert not before.exact


def test_min_p_without_logits_is_exact_where_nothing_unknown_can_stay() -> None:
    logits = np.concatenate([[10, 9.5, 9, 4], np.full(200, -5)]).astype(np.float32)
    run = recorded(Case(logits, np.array([1]), (warper(Temperature(0.9)),)), save=False, cap=4)
    assert whatif(run, Settings(min_p=0.01), replayer=REPLAYER).exact
    assert not whatif(run, Settings(min_p=1e-9), replayer=REPLAYER).exact
    assert isinstance(parse_processors(run.header)[0].processor, Temperature)
    assert MinP(0.1).min_p == 0.1


def test_bfloat16_scores_are_estimates_without_torch() -> None:
    model = tiny_model("gpt2").to(torch.bfloat16)
    run = real_run(model, seed=2, max_new_tokens=6, **SAMPLING)
    assert run.steps[0].head.forward is not None
    if scores_dtype(run.header, run.steps[0].head) != "bfloat16":
        pytest.skip("the scores are float32")
    assert not whatif(run, Settings(temperature=1.5)).exact
    report = whatif(run, Settings(temperature=1.5), replayer=REPLAYER)
    assert report.exact
    assert all(step.reproduced for step in report.steps)
    real = real_run(model, seed=2, max_new_tokens=6, **{**SAMPLING, "temperature": 1.5})
    different = [
        i for i, (a, b) in enumerate(zip(run.steps, real.steps, strict=False), 1) if tokens(a) != tokens(b)
    ]
    assert report.first_step == (different[0] if different else None)


@pytest.mark.parametrize(("version", "exact"), [("4.44.2", False), ("4.57.6", True), ("5.24.0", True)])
def test_scores_that_the_release_computes_in_float32(version: str, exact: bool) -> None:
    logits = np.linspace(-3, 5, 40).astype(np.float32)
    run = recorded(Case(logits, np.array([1]), (warper(Temperature(0.5)), warper(TopK(8)))))
    forward = run.steps[0].head.forward
    assert forward is not None
    narrow = forward.next_logits.model_copy(update={"dtype": "bfloat16"})
    head = run.steps[0].head.model_copy(
        update={"forward": forward.model_copy(update={"next_logits": narrow})}
    )
    versions = {**run.header.versions, "transformers": version}
    run = replace(
        run,
        header=run.header.model_copy(update={"versions": versions}),
        steps=[replace(run.steps[0], head=head)],
    )
    assert whatif(run, Settings(top_k=4)).steps[0].exact == exact


def test_what_the_user_changed_is_said(run: MemoryRun) -> None:
    head = run.steps[0].head.model_copy(update={"interventions": (Intervention(kind="force", detail="32"),)})
    steps = [replace(run.steps[0], head=head), *run.steps[1:]]
    assert "changed step 1" in whatif(replace(run, steps=steps), Settings()).notes[0]


def test_steps_without_scores(run: MemoryRun) -> None:
    with pytest.raises(UsageError, match="not recorded"):
        whatif(replace(run, steps=[replace(run.steps[0], scores=None)]), Settings())
