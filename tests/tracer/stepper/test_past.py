"""Looking back in a run in progress: the same cards and answers as on its recording, and nothing changed."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from rich.console import Console

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import EAGER, environment
from tests.support.models import GREEDY, SAMPLING
from tests.support.prepared import PreparedProcess
from tests.support.walkthrough import LOOP, ONLY_SAMPLING, SCORES, WALKTHROUGH
from tests.tracer.stepper.sessions import Session, exchanges, stepped, untouched
from tracer import open_trace
from tracer.halting.stops import HALTS
from tracer.replay.terminal.stepper import RecordedStepper
from tracer.schema.run import StopName
from tracer.stepper.lines import PipeLines

QUESTIONS = (
    *("p model_inputs", "p model_kwargs", "p input_ids[0]", "p outputs", "p next_token_logits[0, :9]"),
    *("p next_token_scores", "p probs", "p next_tokens", "p entropy", "p nowhere", "p past_key_values"),
    *("top 3", "why", "why w60", "kv", "w", "l 2", "whatif temperature=2 top_k=3"),
)


def recorded(folder: Path, stops: tuple[StopName, ...], *commands: str) -> list[tuple[str, str, str]]:
    """What the stepper on the recording answers."""
    target = io.StringIO()
    console = Console(file=target, width=100, highlight=False)
    lines = PipeLines(io.StringIO("".join(f"{line}\n" for line in commands)), console)
    with open_trace(folder / "run.trace") as recording:
        RecordedStepper(recording.run(), lines, console, stops=stops).run()
    return exchanges(target.getvalue())


def as_recorded(session: Session) -> list[tuple[str, str, str]]:
    """Exchanges of a run in progress without what says that they were in its past."""
    return [
        (re.sub(r"/\d+ past\)", ")", prompt), command, re.sub(r"/\d+ \(past\)", "", answer))
        for prompt, command, answer in session.exchanges
    ]


def without_rules(told: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Exchanges in which a longer title does not make a shorter rule."""
    return [(prompt, command, re.sub("━━+\n", "\n", answer)) for prompt, command, answer in told]


@pytest.mark.parametrize(
    ("stops", "mode", "save"),
    [
        ((*WALKTHROUGH, "stopping"), SAMPLING, ()),
        (tuple(stop for stop in LOOP.stops if stop in HALTS), GREEDY, ("logits", "kv")),
    ],
    ids=["sampling", "greedy"],
)
def test_what_has_been_reads_as_on_the_recording(
    stops: tuple[StopName, ...], mode: dict[str, Any], save: tuple[str, ...], tmp_path: Path
) -> None:
    passed = [each for each in stops if mode["do_sample"] or each not in ONLY_SAMPLING]
    # The run stands at the last stop of step 3; from there back to the beginning, asking at each stop.
    there, back = ["s", "s", *["n"] * (len(passed) - 1)], ["b", *QUESTIONS] * (3 * len(passed) - 1)
    session = stepped(tmp_path, *there, *back, "c", "c", stops=",".join(stops), save=save, **mode)
    asked = without_rules(as_recorded(session))[len(there) : len(there) + len(back)]
    told = without_rules(recorded(tmp_path, stops, *there, *back))[len(there) : len(there) + len(back)]
    assert len(asked) == len(told) == len(back)
    for ours, theirs in zip(asked, told, strict=True):
        # What the step in progress assigns last has its values in the next one.
        unknown = "(assigned later" in theirs[2] or "which was not recorded" in ours[2]
        if not unknown or "3" not in theirs[0]:
            assert ours == theirs
    assert session.sequences is not None
    assert session.sequences.tolist() == untouched(**mode).tolist()


def test_the_command_shows_the_card_that_step_shows_afterwards(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    out = str(tmp_path / "run.trace")
    stops = ("--stop-at", ",".join(WALKTHROUGH))
    arguments = (
        "--model",
        str(checkpoint),
        "--prompt",
        "w10",
        "--max-new-tokens",
        "3",
        "--seed",
        "1",
        *EAGER,
    )

    def told(script: str, *command: str) -> list[tuple[str, str, str]]:
        with PreparedProcess(
            [sys.executable, "-m", "tracer", *command, *stops],
            env=environment(),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            text=True,
        ) as process:
            stdout, stderr = process.communicate(script, timeout=240)
        assert process.returncode == 0, stderr
        return exchanges(stdout)

    live = told("s\nn\nb\nb\nc\nc\n", *arguments, "--sample", "--step", "--no-html", "--out", out)
    after = told("g 2\nn\nb\nb\n", "step", out)
    assert [command for _, command, _ in live[2:4]] == ["b", "b"]
    as_it_was = [(prompt, command, re.sub(r"/2 \(past\)", "", answer)) for prompt, command, answer in live]
    for ours, theirs in zip(without_rules(as_it_was)[2:4], without_rules(after)[2:4], strict=True):
        assert ours[1:] == theirs[1:]
        assert "━━ Step " in ours[2]


def prompts(session: Session) -> list[str]:
    return [prompt for prompt, _, _ in session.exchanges]


def test_the_way_back_and_forth_again(tmp_path: Path) -> None:
    commands = ["s", "n", "sb", "b", "n", "n", "n", "n", "n", "s", "n"]
    session = stepped(tmp_path, *commands, stops=f"model-call,{SCORES},append", **SAMPLING)
    assert prompts(session) == [
        "(model-call 1)",
        "(model-call 2)",
        f"({SCORES} 2)",
        "(model-call 1/2 past)",
        "(model-call 1/2 past)",  # there is nothing before it
        f"({SCORES} 1/2 past)",
        "(append 1/2 past)",
        "(model-call 2/2 past)",
        f"({SCORES} 2)",  # the present
        "(append 2)",
        "(model-call 3)",
        f"({SCORES} 3)",
    ]
    assert "The run begins with step 1." in session.exchanges[3][2]
    assert "Step 1/2 (past), before 1 prepare inputs" in session.exchanges[2][2]


def test_conditions_in_both_directions(tmp_path: Path) -> None:
    commands = ["b step == 4", "c", "rc step == 2", "rc", "u step == 3", "c", "c", "sb", "c"]
    session = stepped(tmp_path, *commands, stops="choice,append", **GREEDY)
    assert prompts(session)[2:] == [
        "(end 4)",
        "(append 2/4 past)",
        "(choice 1/4 past)",
        "(append 3/4 past)",
        "(append 4/4 past)",  # the condition holds there, and there the run stands
        "(end 4)",
        "(choice 3/4 past)",
        "(append 4/4 past)",
    ]
    assert "! break: step == 2 holds in step 2: step is 2" in session.exchanges[2][2]


def test_a_condition_is_not_met_in_a_step_that_is_not_over(tmp_path: Path) -> None:
    session = stepped(tmp_path, "s", "n", "b", "u step == 2", "rc step == 2", **SAMPLING)
    assert prompts(session)[2:] == [
        "(forward-result 2)",
        "(model-call 2/2 past)",
        "(forward-result 2)",
        "(model-call 1/2 past)",
    ]


def test_conditions_know_tokens_that_nothing_mentioned(tmp_path: Path) -> None:
    session = stepped(tmp_path, "s", 'rc removed("w61")', **SAMPLING)
    assert prompts(session)[-1] == f"({WALKTHROUGH[-1]} 1/2 past)"


def test_the_end_of_a_step_has_all_of_it_behind(tmp_path: Path) -> None:
    session = stepped(tmp_path, "u step == 1", "sb", "b", "n", "g 1", "c", "n", **GREEDY)
    assert prompts(session)[1:] == [
        "(end 1)",
        "(end 1)",  # no step is before it
        f"({WALKTHROUGH[-1]} 1/1 past)",
        "(end 1)",
        "(model-call 1/1 past)",
        "(end 1)",
        "(model-call 2)",
    ]


def test_at_the_first_stop_there_is_nothing_before(tmp_path: Path) -> None:
    session = stepped(tmp_path, "b", "sb", "rc", "g 1", "n", **GREEDY)
    assert prompts(session) == ["(model-call 1)"] * 5 + ["(forward-result 1)"]
    for _, _, answer in session.exchanges[:3]:
        assert answer.strip() == "The run begins with step 1."


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("force w60", "force changes the run, and this is its past: fork token=TOKEN goes on from here"),
        ("ban w60", "fork ban=TOKEN goes on from here"),
        ("set temperature 2", "fork NAME=VALUE goes on from here"),
        ("g 9", "step 9 has not come yet: the run stands in step 2"),
        ("g 0", "step 0 was not recorded"),
        ("g x", "'x' is no number of a step"),
        ("u p_chosen <", "condition"),
        ("why nix", "no token with this text"),
    ],
)
def test_what_cannot_be_in_the_past(command: str, complaint: str, tmp_path: Path) -> None:
    session = stepped(tmp_path, "s", "b", command, "c", "c", **SAMPLING)
    answer = " ".join(session.exchanges[2][2].split())
    assert complaint in answer
    assert answer.count("✗") == 1
    assert prompts(session)[2:4] == [f"({WALKTHROUGH[-1]} 1/2 past)"] * 2
    assert session.sequences is not None
    assert session.sequences.tolist() == untouched(**SAMPLING).tolist()
    assert not any(step.head.interventions for step in session.steps)


def test_a_condition_can_be_added_and_the_run_ended_from_the_past(tmp_path: Path) -> None:
    session = stepped(tmp_path, "s", "b", "b step > 5", "h", "q", **GREEDY)
    assert "halts where step > 5" in session.exchanges[2][2]
    assert "fork [NAME=VALUE …]" in session.exchanges[3][2]
    assert session.sequences is None
    assert len(session.steps) == 1


def test_the_end_of_a_script_in_the_past_goes_on_to_the_end(tmp_path: Path) -> None:
    session = stepped(tmp_path, "s", "b", **GREEDY)
    assert "(end of input)" in session.text
    assert session.sequences is not None
    assert session.sequences.tolist() == untouched(**GREEDY).tolist()
