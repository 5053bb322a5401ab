"""What a person changes, changes exactly that, and is recorded; the processors' figures stay theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper

from hooks.loop.interventions import Interventions
from tests.support.models import EOS, GREEDY, SAMPLING, batch, generate, tiny_model
from tests.support.walkthrough import LOOP, SCORES, passed
from tests.tracer.stepper.sessions import Session, stepped, untouched
from tracer.errors import UsageError

MODES = pytest.mark.parametrize("mode", [GREEDY, SAMPLING], ids=["greedy", "sampling"])


def changes(session: Session) -> list[list[str]]:
    return [[f"{each.kind} {each.detail}" for each in step.head.interventions] for step in session.steps]


def chosen(session: Session, row: int = 0) -> list[int]:
    choices = [step.choice(row) for step in session.steps]
    return [choice.token for choice in choices if choice is not None]


@MODES
@pytest.mark.parametrize("rows", [1, 3])
def test_looking_changes_nothing(mode: dict[str, Any], rows: int, tmp_path: Path) -> None:
    looks = (
        "top",
        "kv",
        "w",
        "l",
        "why id:7",
        "p torch.rand(3)",
        "p probs.multinomial(1)",
        "b step == 99",
        "h",
    )
    session = stepped(tmp_path, *looks, "", *looks, "s", *looks, "c", stops="all", rows=rows, **mode)
    assert session.sequences is not None
    assert torch.equal(session.sequences, untouched(rows, **mode))
    assert not any(changes(session))
    assert torch.equal(session.sequences, untouched(rows, **mode))
    follows = [step.head.draw.follows for step in session.steps if step.head.draw is not None]
    assert all(follows[1:])


@pytest.mark.parametrize(
    ("mode", "stop"),
    [
        *((GREEDY, stop) for stop in ("model-call", "forward-result", "choice")),
        *((SAMPLING, stop) for stop in ("model-call", "forward-result", SCORES, "softmax", "choice")),
    ],
)
def test_a_forced_token_is_the_next_choice(mode: dict[str, Any], stop: str, tmp_path: Path) -> None:
    output = generate(tiny_model(), batch(), **mode)
    plain = output.sequences
    # The least likely word there, whatever was chosen before it.
    token = 6 + int(output.logits[1][0, 6:EOS].argmin())
    session = stepped(tmp_path, "n", f"force w{token}", "c", stops=stop, **mode)
    assert f'force "w{token}" ({token}): in the choice of step 2' in session.text
    assert changes(session)[:3] == [[], [f'force "w{token}" ({token})'], []]
    assert session.sequences is not None
    assert session.sequences[0, :7].tolist() == plain[0, :7].tolist()
    assert chosen(session)[1] == session.sequences[0, 7] == token
    assert plain[0, 7] != token
    # The record is what the processors made, in which this token had no chance or a small one.
    scores = session.steps[1].scores
    assert scores is not None
    place = scores.tokens[0].tolist().index(token)
    assert scores.probabilities[0, place] < 0.5
    assert scores.scores[0, 0, place] == pytest.approx(float(session.logits[1][0, token]))
    if mode is SAMPLING:
        assert scores.scores[-1, 0, place] == -np.inf


@pytest.mark.parametrize("stop", [each for each in LOOP.stops if passed("choice", each)])
def test_behind_the_choice_the_next_one_is_meant(stop: str, tmp_path: Path) -> None:
    session = stepped(tmp_path, "force id:60", "c", stops=stop, **GREEDY)
    assert "in the choice of step 2" in session.text
    assert changes(session)[:3] == [[], ['force "w60" (60)'], []]
    assert chosen(session)[1] == 60


@MODES
def test_one_row_or_all(mode: dict[str, Any], tmp_path: Path) -> None:
    plain = untouched(3, **mode)
    one = stepped(tmp_path, "force w60 row 1", "c", stops="choice", rows=3, **mode)
    assert [chosen(one, row)[0] for row in range(3)] == [plain[0, 6], 60, plain[2, 6]]
    assert changes(one)[0] == ['force "w60" (60) row 1']
    everyone = stepped(tmp_path, "force w60", "c", stops="model-call", rows=3, **mode)
    assert [chosen(everyone, row)[0] for row in range(3)] == [60, 60, 60]


@pytest.mark.parametrize("stop", ["model-call", "choice"])
def test_a_banned_token_is_not_chosen(stop: str, tmp_path: Path) -> None:
    plain = untouched(**GREEDY)
    best = int(plain[0, 6])
    session = stepped(tmp_path, f"ban id:{best}", "c", stops=stop, **GREEDY)
    scores = session.steps[0].scores
    assert scores is not None
    order = np.argsort(-scores.scores[-1, 0])
    second = int(scores.tokens[0, order[1]])
    assert chosen(session)[0] == second
    assert changes(session)[0][0].startswith("ban ")
    assert scores.tokens[0, order[0]] == best
    assert scores.scores[-1, 0, order[0]] > -np.inf


def test_where_nothing_else_is_left_the_stage_before_decides(tmp_path: Path) -> None:
    mode: dict[str, Any] = {"do_sample": True, "top_k": 1}
    best = int(untouched(**mode)[0, 6])
    session = stepped(tmp_path, f"ban id:{best}", "c", stops="choice", **mode)
    assert session.sequences is not None
    assert chosen(session)[0] != best
    scores = session.steps[0].scores
    assert scores is not None
    assert scores.candidates[0] == 1


def test_two_changes_of_one_choice(tmp_path: Path) -> None:
    best = int(untouched(**GREEDY)[0, 6])
    alone = chosen(stepped(tmp_path, f"ban id:{best}", "c", stops="choice", **GREEDY))[0]
    both = stepped(tmp_path, f"ban id:{best}", f"ban id:{alone}", "c", stops="choice", **GREEDY)
    assert chosen(both)[0] not in (best, alone)
    assert len(changes(both)[0]) == 2


def test_a_setting_holds_until_the_run_ends_and_is_put_back(tmp_path: Path) -> None:
    warper, top = TemperatureLogitsWarper(0.7), TopKLogitsWarper(20)
    ours = LogitsProcessorList([warper, top])
    mode: dict[str, Any] = {"do_sample": True, "top_k": 0}
    session = stepped(tmp_path, "s", "set temperature 2", "c", processors=ours, **mode)
    assert changes(session)[:3] == [[], ["set temperature 2.0"], ["set temperature 2.0"]]
    assert warper.temperature == 0.7
    for step, divisor in zip(session.steps, (0.7, 2.0, 2.0), strict=False):
        assert step.scores is not None
        raw, divided = step.scores.scores[0, 0], step.scores.scores[1, 0]
        assert divided[0] == pytest.approx(raw[0] / divisor, rel=1e-5)
    assert "! 1 change made by the user" not in session.text  # nobody reports here


def test_a_setting_changed_behind_its_processor_is_the_next_steps(tmp_path: Path) -> None:
    session = stepped(tmp_path, "set temperature 2", "set top_k 3", "c", stops="choice", **SAMPLING)
    assert changes(session)[:2] == [[], ["set temperature 2.0", "set top_k 3"]]
    assert session.steps[1].scores is not None
    assert session.steps[1].scores.candidates[0] <= 3
    assert changes(stepped(tmp_path, "set temperature 2", "c", stops="model-call", **SAMPLING))[0]
    # The penalty belongs to the processors, which have run before the warpers; the temperature does not.
    both = ["set repetition_penalty 1.5", "set temperature 2.0"]
    mixed = stepped(
        tmp_path, "set repetition_penalty 1.5", "set temperature 2", "c", stops=SCORES, **SAMPLING
    )
    assert changes(mixed)[:2] == [both[1:] if SCORES == "warpers" else both, both]


def test_settings_that_cannot_be_set() -> None:
    changer = Interventions([TemperatureLogitsWarper(0.7), TopKLogitsWarper(20)])
    for name, value in (("temperature", 0.0), ("temperature", -1.0), ("top_k", 2.5), ("top_k", 0.0)):
        with pytest.raises(UsageError, match=f"set {name}"):
            changer.set(name, value, step=1, stages=0)
    with pytest.raises(UsageError, match="there are temperature, top_k"):
        changer.set("top_p", 0.5, step=1, stages=0)
    with pytest.raises(UsageError, match="no processor"):
        Interventions([]).set("temperature", 0.5, step=1, stages=0)
    assert not changer.any


def test_an_ended_run_puts_the_setting_back(tmp_path: Path) -> None:
    warper = TemperatureLogitsWarper(0.7)
    session = stepped(
        tmp_path, "set temperature 3", "s", "q", processors=LogitsProcessorList([warper]), do_sample=True
    )
    assert session.sequences is None
    assert warper.temperature == 0.7
