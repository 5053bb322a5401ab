"""A run is left at a halt for a fork, which goes on in its place with the same model, in the same trace."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from hooks.scores.replay import TorchReplayer
from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import EAGER, Ended, call_main
from tests.support.models import SAMPLING
from tests.support.walkthrough import WALKTHROUGH
from tests.tracer.stepper.sessions import exchanges, stepped, untouched
from tests.tracer.stepper.terminal import Typed
from tracer import open_trace
from tracer.analysis.draw import DrawStates
from tracer.errors import UsageError
from tracer.loading.model_spec import ModelSpec
from tracer.loading.models import LoadedModel, load_model
from tracer.schema.run import RunStatus
from tracer.stepper.commands import parse_fork
from tracer.tracefile import TraceRun, check_file

TOKENS = 5

IMPOSSIBLE = {
    "fork step=9": "step 9 has not come yet: the run stands in step 2",
    "fork step=0": "step 0 was not recorded",
    "fork step=x": "fork step=x: it must be a whole number",
    "fork token=nix": "'nix' is no single token",
    "fork token=id:100": "There is no token 100",
    "fork token=w60 ban=w60": "token 60 is to be forced and banned at once",
    "fork tempreture=1": "tempreture: no such generation setting. Did you mean temperature?",
    "fork temperature=-1": "temperature=-1: it must be a number above 0",
    "fork num_beams=3": "num_beams > 1",
    "fork seed=-1": "fork seed=-1: it must be a whole number",
    "fork max_new_tokens=0": "a fork generates one token at least",
    "fork row=3 token=w60": "row 3 does not exist",
    "fork w60": "expected NAME=VALUE",
    "fork seed=1 seed=2": "fork names seed twice",
    "fork greedy=maybe": "greedy is true or false",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def arguments(checkpoint: Path) -> tuple[str, ...]:
    mode = ("--sample", "--top-k", "5", "--temperature", "0.9", "--seed", "1", "--gen", "eos_token_id=null")
    return (
        *("--model", str(checkpoint), "--prompt", "w10 w11", "--max-new-tokens", str(TOKENS)),
        *(*mode, *EAGER, "--no-html"),
    )


@dataclass(frozen=True)
class Stepped:
    """A session of the whole command.

    Attributes:
        ended: how it ended.
        path: the trace.
    """

    ended: Ended
    path: Path

    @property
    def prompts(self) -> list[str]:
        """The prompts, in order."""
        return [prompt for prompt, _, _ in self.exchanges]

    @property
    def exchanges(self) -> list[tuple[str, str, str]]:
        """Prompt, command and answer of each command."""
        return exchanges(self.ended.stdout)


Session = Callable[..., Stepped]


@pytest.fixture
def session(
    arguments: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Session:
    def run(*lines: str, options: tuple[str, ...] = ()) -> Stepped:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        path = tmp_path / "run.trace"
        return Stepped(call_main(capsys, *arguments, "--step", "--out", path, "--force", *options), path)

    return run


@pytest.fixture
def plain(arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[int]:
    """What the command generates if nobody steps."""
    ended = call_main(capsys, *arguments, "--json", "--out", tmp_path / "plain.trace")
    ids: list[int] = json.loads(ended.stdout)["token_ids"][0]
    return ids


def generated(run: TraceRun) -> list[int]:
    assert run.end is not None
    return list(run.end.sequences[0][len(run.header.prompt[0].token_ids) :])


@pytest.mark.parametrize(
    ("lines", "steps_of_parent"),
    [
        (("s", "s", "sb", "fork"), 2),  # of an earlier step: the run is left where it stands
        (("s", "n", "fork"), 2),  # of the step in progress: it is made to its end
        (("u step == 2", "fork"), 2),  # behind the step
    ],
    ids=["past", "present", "end"],
)
def test_without_a_change_it_gives_what_the_run_would_have_given(
    lines: tuple[str, ...],
    steps_of_parent: int,
    session: Session,
    plain: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[ModelSpec] = []

    def counted(spec: ModelSpec, *more: Any) -> LoadedModel:
        loaded.append(spec)
        return load_model(spec, *more)

    monkeypatch.setattr("tracer.running.generation.load_model", counted)
    made = session(*lines, "c")
    assert made.ended.returncode == 0, made.ended.stderr
    assert made.prompts[-1] == "(model-call 2)"
    assert len(loaded) == 1
    assert "✓ the steps before step 2 repeat run 1 bit for bit" in made.ended.stdout
    assert check_file(made.path).whole
    with open_trace(made.path) as recording:
        parent, fork = recording.runs
        assert parent.end is not None
        assert (parent.end.status, parent.end.error) == (RunStatus.INTERRUPTED, "left for a fork at step 2")
        assert len(parent.steps) == steps_of_parent
        assert generated(parent) == plain[:steps_of_parent]
        assert generated(fork) == plain
        assert fork.header.fork is not None
        assert (fork.header.fork.run, fork.header.fork.step, fork.header.fork.trace) == (1, 2, None)
        assert not any(step.head.interventions for step in fork.steps)


def test_with_a_token_it_goes_on_as_a_fresh_generation_would(
    session: Session, plain: list[int], checkpoint: Path
) -> None:
    made = session("s", "s", "n", "g 2", "fork token=w60", "c")
    assert made.ended.returncode == 0, made.ended.stderr
    with open_trace(made.path) as recording:
        parent, fork = recording.runs
        prompt = list(fork.header.prompt[0].token_ids)
        assert generated(fork)[:2] == [plain[0], 60]
        # The draw of step 2 happened, although its token was forced.
        state = DrawStates(fork, TorchReplayer()).before(3)
        assert state == DrawStates(recording.runs[0], TorchReplayer())._after(
            parent.steps[1].head, DrawStates(parent, TorchReplayer()).before(2)
        )
        (change,) = fork.steps[1].head.interventions
        assert (change.kind, change.token) == ("force", 60)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation="eager").eval()
    torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    fresh = model.generate(
        torch.tensor([[*prompt, plain[0], 60]]),
        max_new_tokens=TOKENS - 2,
        do_sample=True,
        top_k=5,
        temperature=0.9,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert [*prompt, *generated(fork)] == fresh[0].tolist()


def test_a_fork_of_a_fork_looks_back_at_itself(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    made = session(
        *("s", "s", "sb", "fork token=w60"),  # run 2, at step 2
        *("s", "b", "why", "p next_tokens", "n"),
        *("sb", "fork ban=w60 temperature=1.5 seed=4 max_new_tokens=2"),  # run 3, at step 2
        *("b", "c", "s"),
    )
    assert made.ended.returncode == 0, made.ended.stderr
    assert made.prompts[4:] == [
        "(model-call 2)",
        "(model-call 3)",
        f"({WALKTHROUGH[-1]} 2/3 past)",
        f"({WALKTHROUGH[-1]} 2/3 past)",
        f"({WALKTHROUGH[-1]} 2/3 past)",
        "(model-call 3)",
        "(model-call 2/3 past)",
        "(model-call 2)",
        f"({WALKTHROUGH[-1]} 1/2 past)",
        "(model-call 2)",
        "(model-call 3)",
    ]
    assert "Why w60 (60)?  step 2" in made.exchanges[6][2]
    assert "[1] int64: 60" in made.exchanges[7][2]
    assert "forked from run 1 at step 2: chose 'w60' (60)" in made.ended.stdout
    changes = "not 'w60' (60), temperature 1.5, max_new_tokens 3, seed 4"
    assert f"forked from run 2 at step 2: {changes}" in " ".join(made.ended.stdout.split())
    with open_trace(made.path) as recording:
        assert [len(run.steps) for run in recording.runs] == [2, 2, 3]
        assert [each.header.fork and each.header.fork.run for each in recording.runs] == [None, 1, 2]
        assert recording.runs[2].steps[1].choice().token != 60  # type: ignore[union-attr]
    shown = call_main(capsys, "show", made.path, "--steps", "none").stdout
    assert f"fork forked from run 2 at step 2: {changes}" in " ".join(shown.split())
    assert check_file(made.path).whole


def test_the_steps_before_are_passed_by(session: Session) -> None:
    made = session(
        *("s", "s", "s", "g 3", "fork", "n", "n", "n", "c"),
        options=("--break", "step in (2, 3)", "--stop-steps", "1,2,4", "--stop-at", "model-call,update"),
    )
    assert made.ended.returncode == 0, made.ended.stderr
    assert made.prompts[2:5] == ["(end 2)", "(end 3)", "(model-call 3/3 past)"]
    # Neither stops nor conditions halt it before its own first step, at which it halts in any case.
    assert made.prompts[5:] == ["(model-call 3)", "(update 3)", "(end 3)", "(model-call 4)"]
    after = made.ended.stdout.split("forked from run 1 at step 3")[1]
    assert "Step 1" not in after
    assert "break: step in (2, 3) holds in step 2" not in after


def test_tokens_that_were_forced_are_repeated(session: Session) -> None:
    made = session("force w60", "s", "ban w61", "s", "b", "fork", "c")
    assert made.ended.returncode == 0, made.ended.stderr
    with open_trace(made.path) as recording:
        parent, fork = recording.runs
        assert generated(fork)[0] == generated(parent)[0] == 60
        assert generated(fork)[1] != 61


def test_a_setting_that_was_changed_before_is_refused_by_name(session: Session) -> None:
    made = session("set temperature 2", "s", "fork", "g 1", "fork", "c")
    assert made.prompts == [
        *("(model-call 1)", "(model-call 1)", "(model-call 2)", "(model-call 2)"),
        *("(model-call 1/2 past)", "(model-call 1)"),
    ]
    said = " ".join(made.exchanges[2][2].split())
    assert "✗ This run cannot be repeated: the user set temperature 2.0 in step 1." in said
    with open_trace(made.path) as recording:
        assert not any(step.head.interventions for step in recording.runs[1].steps)


def test_what_is_impossible_is_said_in_one_line_and_the_run_stands_still(
    session: Session, plain: list[int]
) -> None:
    made = session("s", *IMPOSSIBLE, "c")
    assert made.ended.returncode == 0, made.ended.stderr
    for (line, complaint), (_, command, answer) in zip(IMPOSSIBLE.items(), made.exchanges[1:], strict=False):
        said = " ".join(answer.split())
        assert command == line
        assert said.count("✗") == 1
        assert complaint in said
    assert set(made.prompts[1:]) == {"(model-call 2)"}
    with open_trace(made.path) as recording:
        assert generated(recording.run()) == plain
        assert len(recording.runs) == 1


def test_before_the_first_token_and_with_the_input_at_its_end(session: Session, plain: list[int]) -> None:
    made = session("fork")
    assert made.ended.returncode == 0, made.ended.stderr
    assert "(model-call 1) (end of input)" in made.ended.stdout
    with open_trace(made.path) as recording:
        assert generated(recording.runs[1]) == plain


def test_a_program_that_generates_itself_is_not_left(tmp_path: Path) -> None:
    made = stepped(tmp_path, "s", "fork token=w60", "c", **SAMPLING)
    said = " ".join(made.exchanges[1][2].split())
    assert "was called by your program, which waits for its result" in said
    assert "recording.fork(step=…)" in said
    assert made.sequences is not None
    assert made.sequences.tolist() == untouched(**SAMPLING).tolist()


@pytest.fixture
def typed(arguments: tuple[str, ...], tmp_path: Path) -> Iterator[Typed]:
    terminal = Typed(*arguments, "--step", "--out", tmp_path / "typed.trace", home=tmp_path / "state")
    yield terminal
    terminal.close()


def test_ctrl_c_in_the_fork_closes_it(typed: Typed, tmp_path: Path) -> None:
    typed.wait_for("(model-call 1)")
    typed.send("s\r")
    typed.wait_for("(model-call 2)")
    typed.send("b\r")
    typed.wait_for(f"({WALKTHROUGH[-1]} 1/2 past)")
    typed.send("fork tok\t")
    typed.wait_for("token=")
    typed.send('"w60"\r')
    typed.wait_for("forked from run 1 at step 1: chose 'w60' (60)")
    typed.wait_for("(model-call 1)")
    typed.send("s\r")
    typed.wait_for("(model-call 2)")
    typed.send("\x03")
    assert typed.end() == 130
    assert "Traceback" not in typed.text
    with open_trace(tmp_path / "typed.trace") as recording:
        assert [run.end and run.end.status for run in recording.runs] == [RunStatus.INTERRUPTED] * 2
        assert generated(recording.runs[1]) == [60]
    assert check_file(tmp_path / "typed.trace").whole


def test_how_a_fork_is_written() -> None:
    text = 'token=" a b" ban=x ban="y \\" z" max-new-tokens=3 greedy=true min_p=0.1 stop_strings=["end"]'
    assert parse_fork(text) == {
        "token": '" a b"',
        "ban": ["x", '"y \\" z"'],
        "max_new_tokens": 3,
        "do_sample": False,
        "min_p": 0.1,
        "stop_strings": ["end"],
    }
    assert parse_fork("") == {}
    for wrong in ("token", "=3", "token=", 'token="a', "greedy=true do_sample=true", 'token="a"b'):
        with pytest.raises(UsageError):
            parse_fork(wrong)
