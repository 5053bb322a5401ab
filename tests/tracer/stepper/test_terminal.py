"""The stepper in a real terminal and through a real pipe, with the whole command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hooks.loop.anchors import find_anchors
from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import EAGER, call_main, environment
from tests.support.models import tiny_model
from tests.support.walkthrough import FIRST_FUNCTION, LOOP, SCORES
from tests.tracer.stepper.terminal import Typed
from tracer import open_trace
from tracer.tracefile import check_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals on Windows")

UP = "\x1b[A"
CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")
    mode = ("--max-new-tokens", "4", "--sample", "--top-k", "5", "--temperature", "0.9", "--seed", "1")
    return ("--model", str(folder), "--prompt", "w10 w11", *mode, *EAGER, "--gen", "eos_token_id=null")


@pytest.fixture
def typed(arguments: tuple[str, ...], tmp_path: Path) -> Iterator[Callable[..., Typed]]:
    opened: list[Typed] = []

    def start(*more: str) -> Typed:
        opened.append(
            Typed(*arguments, "--step", "--out", tmp_path / "run.trace", *more, home=tmp_path / "state")
        )
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_every_command_and_ctrl_d_in_a_terminal(typed: Callable[..., Typed], tmp_path: Path) -> None:
    terminal = typed("--stop-at", f"model-call,forward-result,{SCORES},choice")
    terminal.wait_for("(model-call 1)")

    def say(keys: str, answer: str, prompt: str) -> str:
        terminal.send(f"{keys}\r")
        terminal.wait_for(answer)
        return terminal.wait_for(prompt)

    say("p model_inputs['input_ids'].shape", "torch.Size([1, 15])", "(model-call 1)")
    say(UP, "torch.Size([1, 15])", "(model-call 1)")  # history
    terminal.send("p model_in\t")  # completion
    terminal.wait_for("model_inputs")
    say("['input_ids'].dtype", "torch.int64", "(model-call 1)")
    say("nonsense", "is no command", "(model-call 1)")
    say("p 1/0", "ZeroDivisionError", "(model-call 1)")
    say("h", "exit code 130", "(model-call 1)")
    say("l", str(find_anchors(tiny_model(), LOOP, do_sample=True)[0].line), "(model-call 1)")
    say("w", FIRST_FUNCTION, "(model-call 1)")
    say("kv", "before step 1", "(model-call 1)")
    say("b step == 3", "halts where step == 3", "(model-call 1)")
    say("", "before 3 forward result", "(forward-result 1)")
    say("n", "before", f"({SCORES} 1)")
    say("set temperature 2", "set temperature 2.0", f"({SCORES} 1)")
    say("n", "before 8 choice", "(choice 1)")
    say("top 2", "rank", "(choice 1)")
    say("why w60", "Why not w60", "(choice 1)")
    say("whatif temperature=0.5", "What if  temperature=0.5", "(choice 1)")
    say("diff nowhere.trace", "no such file", "(choice 1)")
    say("ban w11", 'ban "w11" (11)', "(choice 1)")
    say("force w60", 'force "w60" (60)', "(choice 1)")
    say("s", "Step 2, before", "(model-call 2)")
    say("u step == 2", "End of step 2", "(end 2)")
    say("c", "End of step 3", "(end 3)")
    say("b step > 3", "halts where step > 3", "(end 3)")
    terminal.send(CTRL_D)  # to the end, past a condition that holds
    terminal.wait_for("changes made by the user")
    assert terminal.end() == 0
    assert "(end 4)" not in terminal.text
    with open_trace(tmp_path / "run.trace") as recording:
        first, second = recording.steps[:2]
        done = [f"{each.kind} {each.detail}" for each in first.head.interventions]
        assert done == ["set temperature 2.0", 'ban "w11" (11)', 'force "w60" (60)']
        assert first.scores is not None
        assert first.scores.chosen.tolist() == [60]
        assert [each.kind for each in second.head.interventions] == ["set"]
        assert recording.end is not None
        assert recording.end.status == "complete"
    assert check_file(tmp_path / "run.trace").ok
    history = next((tmp_path / "state").rglob("stepper-history")).read_text()
    assert "+why w60" in history


def test_ctrl_c_ends_the_run_with_its_trace_closed(typed: Callable[..., Typed], tmp_path: Path) -> None:
    terminal = typed("--stop-at", "update")
    terminal.wait_for("(update 1)")
    terminal.send("s\r")
    terminal.wait_for("(update 2)")
    terminal.send(f"p half a line{CTRL_C}")
    assert terminal.end() == 130
    assert "interrupted" in terminal.text
    assert "Traceback" not in terminal.text
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.end is not None
        assert (recording.end.status, len(recording.steps)) == ("interrupted", 1)


@pytest.mark.slow
def test_a_script_through_a_pipe(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tracer", *arguments, "--step", "--out", str(tmp_path / "run.trace")],
        input="n\nwrong\nc\n",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "(forward-result 1) wrong\n   ✗ 'wrong' is no command" in done.stdout
    assert "\x1b" not in done.stdout
    assert "step  token" in done.stdout
    assert "run 1 complete · 4 steps" in done.stdout


def test_stepping_gives_the_same_tokens(
    arguments: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = call_main(capsys, *arguments, "--json", "--out", tmp_path / "plain.trace")
    expected = json.loads(plain.stdout)["token_ids"]
    for name, script in (("c", "c\n"), ("n", "n\n" * 60), ("empty", "")):
        read, write = os.pipe()
        os.write(write, script.encode())
        os.close(write)
        with os.fdopen(read) as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            done = call_main(capsys, *arguments, "--step", "--out", tmp_path / f"{name}.trace")
        assert done.returncode == 0, done.stderr
        with open_trace(tmp_path / f"{name}.trace") as recording:
            assert recording.end is not None
            assert [list(row[-4:]) for row in recording.end.sequences] == expected


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--step", "--quiet"), "--quiet would hide it"),
        (("--step", "--json"), "--json would hide it"),
        (("--stop-at", "choice"), "--stop-at needs --attach or --step"),
        (("--step", "--attach"), "exclude each other"),
        (("--step", "--stop-at", "choise"), "Did you mean choice?"),
        (("--step", "--stop-steps", "x"), "expected step numbers"),
        (("--step", "--break", "p_chosen <"), "condition"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_loaded(
    options: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = call_main(capsys, "--prompt", "x", "--model", "/nowhere/at/all", *options)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
