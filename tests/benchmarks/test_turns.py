"""Ways of watching that take turns are compared fairly."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import median

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.models import MODES, Subject
from tests.benchmarks.overhead import Case, measure
from tests.benchmarks.steps import steps
from tests.benchmarks.turns import Lane, compare, estimate
from tests.benchmarks.watchers import LEVELS, PEERS, Watcher, traced, unwatched
from tests.support.models import tiny_model
from tracer import open_trace

pytestmark = pytest.mark.reference_only("the benchmarks run with the required release")


@given(st.lists(st.floats(0.5, 2), min_size=6, max_size=60))
def test_the_interval_holds_the_median(values: list[float]) -> None:
    found = estimate(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert found.median == median(values)


def test_the_interval_is_that_of_the_tables() -> None:
    # Ranks of the 95 % interval of a median, as tables of the sign test have them.
    for count, low, high in ((6, 1, 6), (10, 2, 9), (30, 10, 21)):
        found = estimate([float(rank) for rank in range(1, count + 1)])
        assert (found.low, found.high) == (low, high)


def test_the_interval_misses_the_median_at_most_once_in_twenty_times() -> None:
    draw = random.Random(0)
    found = [estimate([draw.lognormvariate(0, 1) for _ in range(20)]) for _ in range(1000)]
    assert sum(each.low <= 1 <= each.high for each in found) > 940


def test_five_pairs_are_too_few() -> None:
    with pytest.raises(ValueError, match="5 pairs"):
        estimate([1.0] * 5)


def test_turns_alternate_and_what_is_put_off_counts() -> None:
    done: list[str] = []

    def lane(name: str) -> Lane:
        return Lane(lambda: done.append(name), lambda: done.append(name.upper()))

    (found,) = compare(lane("a"), {"b": lane("b")}, seconds=0)
    assert found.what == "b"
    rounds = "".join(done).split("AB")
    assert rounds.pop() == ""
    for each in rounds:
        assert all({*each[at : at + 2]} == {"a", "b"} for at in range(0, len(each), 2))


def subject(mode: str = "sample") -> Subject:
    return Subject("tiny", tiny_model(vocab_size=20_000), MODES[mode])


def test_a_lane_chooses_what_a_generation_by_itself_does(tmp_path: Path) -> None:
    model, paths = subject(), [tmp_path / "0.trace", tmp_path / "1.trace"]
    inputs = model.inputs(2, 5)
    watch = traced(LEVELS["stats"])
    with (
        steps(model.sharing_weights(), watch, paths[0], inputs) as one,
        steps(model.sharing_weights(), watch, paths[1], inputs) as other,
        steps(model.sharing_weights(), unwatched, tmp_path, inputs) as untraced,
    ):
        for lane in (one, other, untraced, other, one, one, untraced, other):
            lane.turn()
    expected = model.generate(inputs, 4)
    for path in paths:
        with open_trace(path) as recording:
            # The fifth has begun.
            chosen = [[*step.appended(0), *step.appended(1)] for step in recording.steps[:4]]
        assert chosen == expected[:, 5:].T.tolist()


@pytest.mark.parametrize("mode", MODES)
def test_a_turn_is_a_forward_pass(mode: str, tmp_path: Path) -> None:
    model, passes = subject(mode).sharing_weights(), []
    with steps(model, unwatched, tmp_path, model.inputs(1, 20)) as lane:
        model.model.register_forward_hook(lambda *_: passes.append(1))
        for turns in range(1, 9):
            lane.turn()
            assert len(passes) == turns


def test_lanes_share_their_weights() -> None:
    model = subject()
    other = model.sharing_weights()
    assert other.model is not model.model
    shared = zip(model.model.parameters(), other.model.parameters(), strict=True)
    assert all(one is another for one, another in shared)


def compared(case: Case, watchers: dict[str, Watcher], vocabulary: int = 20_000) -> list[str]:
    threads = torch.get_num_threads()
    model = Subject("tiny", tiny_model(vocab_size=vocabulary))
    try:
        found = measure(model, case, watchers, seconds=0)
    finally:
        torch.set_num_threads(threads)
    assert all(each.rounds >= 6 and each.milliseconds > 0 for each in found)
    return [each.what.partition(":")[0] for each in found]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_can_be_measured(mode: str) -> None:
    case = Case("decode", prompt=20, rows=1, threads=1, mode=mode)
    # With few tokens the prompt has what is looked up in it.
    vocabulary = 20_000 if mode == "constrained" else 110
    assert compared(case, {"stats": traced(LEVELS["stats"])}, vocabulary) == ["untraced", "stats"]


def test_prefills_and_peers_can_be_measured() -> None:
    case = Case("prefill", prompt=5, rows=2, threads=1)
    watchers = {name.replace(":", ""): watch for name, watch in PEERS.items()}
    assert compared(case, watchers) == ["untraced", *watchers]
