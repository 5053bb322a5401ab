"""The processors in NumPy give what transformers' own give."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hooks.scores.replay import TorchReplayer
from tests.support.synthetic import synthetic_header
from tests.tracer.analysis.library import (
    EDITS,
    FILTERS,
    Case,
    cases,
    inner,
    transformers_stages,
    usual,
    warper,
)
from tests.tracer.analysis.vectors import VECTORS
from tracer.analysis.processors.edits import (
    ExponentialDecay,
    ForcedBeginning,
    ForcedEnd,
    MinLength,
    MinNewTokens,
    NoRepeatNGram,
    Normalisation,
    RemoveInvalid,
    Suppress,
    SuppressAtBegin,
)
from tracer.analysis.processors.filters import Epsilon, Eta, MinP, TopH, TopK, TopP, Typical
from tracer.analysis.processors.parsing import describe, parse_processors
from tracer.analysis.processors.processor import (
    Context,
    Opaque,
    PlacedProcessor,
    Processor,
    ScoreRow,
    run_pipeline,
)
from tracer.analysis.processors.softmax import softmax, sum_error
from tracer.schema.run import ProcessorInfo, RunHeader

THOUSAND = settings(max_examples=250, deadline=None)
"""With four rows each, as :func:`relatives` makes them."""

REFUSING = ("eta", "top_h")
"""transformers' own refuse a row in which nothing is left."""

DOUBTS: dict[str, list[int]] = {}


def with_processors(*infos: ProcessorInfo) -> RunHeader:
    return synthetic_header().model_copy(update={"processors": infos})


def numpy_stages(case: Case) -> list[ScoreRow]:
    return run_pipeline(case.placed, ScoreRow(case.logits), Context(case.history))[1:]


def assert_equal_stages(case: Case, label: str = "") -> None:
    """Bit for bit at every stage, up to the first where rounding decides; doubtful tokens are named."""
    seen = DOUBTS.setdefault(label, [0, 0])
    seen[0] += 1
    for ours, theirs in zip(numpy_stages(case), transformers_stages(case), strict=True):
        same = (ours.scores == theirs) | (np.isnan(ours.scores) & np.isnan(theirs))
        assert set(np.flatnonzero(~same)) <= set(ours.doubtful.tolist()), case
        if ours.doubtful.size:
            seen[1] += 1
            return


def relatives(case: Case) -> Iterator[Case]:
    """The case and three more with its settings: drawing one takes Hypothesis longer than checking four."""
    yield case
    rng, scores = np.random.default_rng(case.seed), case.logits
    yield replace(case, logits=rng.permutation(scores))
    yield replace(case, logits=np.round(scores))  # with ties
    spread = rng.normal(0, rng.uniform(0.01, 20), scores.size).astype(np.float32)
    yield replace(case, logits=np.where(rng.random(scores.size) < 0.8, spread, scores))


@pytest.mark.parametrize("name", [*FILTERS, *EDITS])
def test_each_processor_is_transformers_own(name: str) -> None:
    @THOUSAND
    @given(cases((FILTERS | EDITS)[name].map(lambda made: [made])))
    def check(case: Case) -> None:
        assume(name not in REFUSING or case.logits.max() > -np.inf)
        for each in relatives(case):
            assert_equal_stages(each, name)

    check()
    if name in {*EDITS, "top_k"}:
        assert DOUBTS[name][1] == 0


@THOUSAND
@given(cases(usual()))
def test_the_usual_pipeline_is_transformers_own(case: Case) -> None:
    for each in relatives(case):
        assert_equal_stages(each, "usual")


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_that_all_implementations_share(name: str) -> None:
    assert_equal_stages(VECTORS[name], "vectors")


@settings(max_examples=300, deadline=None)
@given(
    cases(
        st.lists(
            st.one_of(*(each for name, each in FILTERS.items() if name not in REFUSING), *EDITS.values()),
            max_size=4,
        ),
        st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0, -1.0, 3e38, -3e38]),
    )
)
def test_scores_that_are_not_finite(case: Case) -> None:
    assert_equal_stages(case, "not finite")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 12), usual())
def test_a_whole_vocabulary(seed: int, spread: float, processors: list[Processor]) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, 152_064).astype(np.float32)
    case = Case(logits, rng.integers(0, logits.size, 30), tuple(warper(each) for each in processors))
    assert_equal_stages(case, "vocabulary")


def test_doubt_is_rare() -> None:
    for label in ("top_p", "usual", "vocabulary"):
        cases_seen, doubtful = DOUBTS.get(label, [1, 0])
        assert doubtful <= max(2, 0.3 * cases_seen), (label, cases_seen, doubtful)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 20), st.sampled_from([1, 7, 1000, 49_152, 152_064]))
def test_softmax_is_within_its_error(seed: int, spread: float, size: int) -> None:
    scores = np.random.default_rng(seed).normal(0, spread, size).astype(np.float32)
    theirs = torch.softmax(torch.from_numpy(scores), -1).numpy().astype(np.float64)
    ours = softmax(scores).astype(np.float64)
    there = ours > 1e-30
    assert (np.abs(theirs - ours)[there] <= sum_error(size) * ours[there]).all()


FIXED: list[tuple[Processor, list[int]]] = [
    (NoRepeatNGram(2), [3, 4, 5, 3]),
    (NoRepeatNGram(3), [1, 2, 7, 1, 2, 8, 1, 2]),
    (NoRepeatNGram(1), [3, 4]),
    (NoRepeatNGram(4), [3, 4]),
    (NoRepeatNGram(3), [3, 4]),
    (MinLength(5, (2, 3)), [1, 1]),
    (MinLength(2, (2, 3)), [1, 1]),
    (MinNewTokens(1, 2, (2,)), [1, 1]),
    (MinNewTokens(1, 1, (2,)), [1, 1]),
    (Suppress((1, 9)), [1]),
    (SuppressAtBegin((1, 9), 2), [1, 1]),
    (SuppressAtBegin((1, 9), 3), [1, 1]),
    (ForcedBeginning(4), [1]),
    (ForcedBeginning(4), [1, 2]),
    (ForcedEnd(3, (4, 5)), [1, 2]),
    (ForcedEnd(4, (4, 5)), [1, 2]),
    (ExponentialDecay(1, 1.3, (4, 5)), [1, 2, 3]),
    (ExponentialDecay(5, 1.3, (4, 5)), [1, 2, 3]),
    (RemoveInvalid(), [1]),
]


@pytest.mark.parametrize(("processor", "history"), FIXED, ids=str)
def test_processors_by_id(processor: Processor, history: list[int]) -> None:
    logits = np.linspace(-3, 3, 12).astype(np.float32)
    logits[[0, 6, 7]] = -np.inf, np.inf if isinstance(processor, RemoveInvalid) else 1.0, 0.5
    case = Case(logits, np.array(history), (warper(processor),))
    assert_equal_stages(case)
    again = parse_processors(with_processors(*map(describe, case.placed)))
    assert again == case.placed


def test_normalisation_is_within_rounding() -> None:
    logits = np.linspace(-30, 3, 1200).astype(np.float32)
    case = Case(logits, np.array([1]), (warper(Normalisation()),))
    np.testing.assert_allclose(numpy_stages(case)[0].scores, transformers_stages(case)[0], rtol=1e-5)


def test_what_cannot_be_repeated_is_opaque() -> None:
    infos = [
        ProcessorInfo(list_name="logits_processor", class_name="MyOwn", settings={}),
        ProcessorInfo(list_name="logits_warper", class_name="TopKLogitsWarper", settings={}),
        ProcessorInfo(
            list_name="logits_warper",
            class_name="SuppressTokensLogitsProcessor",
            settings={"suppress_tokens": "[1" * 100},
        ),
    ]
    placed = parse_processors(with_processors(*infos))
    assert all(isinstance(each.processor, Opaque) for each in placed)
    assert [describe(each) for each in placed] == infos
    assert [each.name for each in placed] == [info.class_name for info in infos]
    row = placed[0].processor.apply(ScoreRow(np.zeros(3, dtype=np.float32)), Context())
    assert row.bound == np.inf


def test_settings_as_they_are_recorded() -> None:
    info = ProcessorInfo(
        list_name="logits_warper",
        class_name="EtaLogitsWarper",
        settings={"epsilon": "0.0003000000142492354", "filter_value": "-inf", "min_tokens_to_keep": "1"},
    )
    (placed,) = parse_processors(with_processors(info))
    assert describe(placed).settings == info.settings


PENALTY = "RepetitionPenaltyLogitsProcessor"


@pytest.mark.parametrize(
    ("recorded", "row", "seen"),
    [("3", 0, [3, 4]), ("3", 2, [3, 4]), ("[0, 2, 4]", 0, [0, 1, 2, 3, 4]), ("[0, 2, 4]", 2, [4])],
)
def test_leading_ids_that_do_not_count(recorded: str, row: int, seen: list[int]) -> None:
    settings = {"penalty": "2.0", "prompt_ignore_length": recorded}
    info = ProcessorInfo(list_name="logits_processor", class_name=PENALTY, settings=settings)
    (placed,) = parse_processors(with_processors(info))
    context = Context(np.arange(5), row=row)
    logits = np.ones(6, dtype=np.float32)
    assert np.flatnonzero(placed.processor.apply(ScoreRow(logits), context).scores != 1).tolist() == seen
    (theirs,) = TorchReplayer().process([placed], context, logits, device="cpu", dtype="float32")
    assert np.flatnonzero(theirs != 1).tolist() == seen


@pytest.mark.parametrize("text", ["64 values", "[" + "10, " * 60, "[0, 1.5, 'x']"])
def test_leading_ids_that_were_not_recorded(text: str) -> None:
    settings = {"penalty": "2.0", "prompt_ignore_length": text}
    info = ProcessorInfo(list_name="logits_processor", class_name=PENALTY, settings=settings)
    assert isinstance(parse_processors(with_processors(info))[0].processor, Opaque)


def top_h(size: int, part: float, spread: float = 3.0) -> tuple[np.ndarray, ScoreRow]:
    logits = np.random.default_rng(size).normal(0, spread, size).astype(np.float32)
    return logits, TopH(part).apply(ScoreRow(logits), Context())


@pytest.mark.parametrize(("size", "kept"), [(30, 2), (100, 5), (400, 1)])
def test_top_h_keeps_a_part_of_the_entropy(size: int, kept: int) -> None:
    _, row = top_h(size, 0.5)
    assert (row.kept, row.exact) == (kept, True)


def test_top_h_looks_at_the_hundred_highest_scores() -> None:
    logits, row = top_h(400, 1.0, spread=0.001)
    assert row.kept <= 100
    known = np.where(logits >= np.sort(logits)[-110], logits, -np.inf)
    partial = TopH(0.5).apply(ScoreRow(known, float(np.sort(logits)[-111])), Context())
    assert partial.exact
    assert (partial.scores == TopH(0.5).apply(ScoreRow(logits), Context()).scores).all()
    few = np.where(logits >= np.sort(logits)[-50], logits, -np.inf)
    assert TopH(0.5).apply(ScoreRow(few, float(np.sort(logits)[-51])), Context()).estimated


@pytest.mark.parametrize("part", ["0.0", "1.5", "nan"])
def test_a_top_h_that_transformers_refuses(part: str) -> None:
    info = ProcessorInfo(
        list_name="logits_processor", class_name="TopHLogitsWarper", settings={"top_h": part, "top_n": "100"}
    )
    assert isinstance(parse_processors(with_processors(info))[0].processor, Opaque)


def row_of(*scores: float, bound: float = -np.inf) -> ScoreRow:
    return ScoreRow(np.array(scores, dtype=np.float32), bound)


def test_a_bound_falls_where_everything_unknown_is_removed() -> None:
    known = row_of(5, 4, 3, -np.inf, bound=2.5)
    context = Context()
    assert TopK(3).apply(known, context).complete
    assert not TopK(4).apply(known, context).complete
    assert not TopK(3).apply(row_of(5, 4, 3, -np.inf, bound=3.0), context).complete  # a tie may hide
    assert MinP(0.2).apply(known, context).complete
    assert not MinP(0.05).apply(known, context).complete
    assert not TopP(0.5).apply(known, context).complete
    assert not TopK(3, filter_value=0.0).apply(known, context).complete


def test_what_unknown_tokens_had_a_say_in_stays_an_estimate() -> None:
    known, context = row_of(5, 4, 3, -np.inf, bound=2.5), Context()
    nucleus = TopP(0.5).apply(known, context)
    assert nucleus.estimated
    after = MinP(0.9).apply(nucleus, context)
    assert after.complete
    assert not after.exact
    assert TopK(2).apply(known, context).exact
    assert MinP(0.2).apply(known, context).exact
    assert not MinP(0.2, min_tokens_to_keep=4).apply(known, context).exact
    assert ForcedBeginning(1).apply(nucleus, Context(np.array([7]))).exact


def test_cuts() -> None:
    row = row_of(*np.log([0.5, 0.3, 0.15, 0.05]))
    score = row.scores
    cut = TopK(2).cutoff(row, 2)
    assert (cut.measure, cut.margin) == ("score", float(score[2]) - float(score[1]))
    cut = TopP(0.7).cutoff(row, 2)
    assert cut.measure == "probability above"
    assert cut.value == pytest.approx(0.8)
    assert cut.margin == pytest.approx(-0.1)
    assert cut.score_margin == pytest.approx(math.log(0.15 / 0.3))
    cut = MinP(0.5).cutoff(row, 2)
    assert cut.value == pytest.approx(0.15)
    assert cut.limit == pytest.approx(0.25)
    for placed in (PlacedProcessor("warper", each) for each in (TopK(2), TopP(0.7), MinP(0.5))):
        after = placed.processor.apply(row, Context()).scores
        for token in range(4):
            found = placed.processor.cutoff(row, token)
            assert found is not None
            assert found.score_margin is not None
            assert (found.score_margin >= 0) == bool(after[token] > -np.inf)


@settings(max_examples=300, deadline=None)
@given(
    cases(
        st.one_of(
            st.builds(Typical, mass=inner), st.builds(Epsilon, epsilon=inner), st.builds(Eta, epsilon=inner)
        ).map(lambda made: [made]),
        st.floats(-9, 9, width=32),
    )
)
def test_cuts_of_the_rarer_filters_agree_with_what_is_removed(case: Case) -> None:
    processor, row = case.placed[0].processor, ScoreRow(case.logits)
    after = processor.apply(row, Context())
    for token in np.flatnonzero(row.scores < row.scores.max())[:20].tolist():
        cut = processor.cutoff(row, token)
        assert cut is not None
        if token not in after.doubtful and abs(cut.margin) > 1e-5:
            assert (cut.margin < 0) == (after.scores[token] == -np.inf)


def test_single_token_vocabulary() -> None:
    for processor in (TopK(5), TopP(0.0), MinP(1.0)):
        assert processor.apply(row_of(3.0), Context()).scores.tolist() == [3.0]
