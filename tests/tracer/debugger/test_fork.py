"""A fork is ordered in the debug console: the run is left, and the fork halts in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import EAGER
from tests.support.prepared import PreparedProcess
from tests.tracer.debugger.client import DebugClient, Halted
from tests.tracer.debugger.command import AttachedCommand
from tracer import open_trace
from tracer.schema.run import RunStatus
from tracer.tracefile import TraceRun, check_file

TOKENS = 4


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")
    return (
        *("--model", checkpoint, "--prompt", "w10 w11", "--max-new-tokens", str(TOKENS), "--seed", "3"),
        *("--sample", "--top-k", "5", "--gen", "eos_token_id=null", "--json", "--no-html", *EAGER),
        *("--attach", "--port", "0"),
    )


def generated(run: TraceRun) -> list[int]:
    assert run.end is not None
    return list(run.end.sequences[0][len(run.header.prompt[0].token_ids) :])


def next_halt(client: DebugClient, halted: Halted) -> Halted:
    client.go_on(halted)
    following = client.halted()
    assert following is not None
    return following


IMPOSSIBLE = {
    "fork(step=9)": "step 9 has not come yet: the run stands in step 2.",
    "fork(token='nix')": "'nix' is no single token",
    "fork(ban=1000)": "there is no token 1000",
    "fork(tempreture=1)": "tempreture: no such generation setting. Did you mean temperature?",
    "fork(temperature=-1)": "temperature=-1: it must be a number above 0",
    "fork(seed='x')": "it must be a whole number",
}


def test_a_fork_goes_on_with_halts_of_its_own(common: tuple[str | Path, ...], tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    with AttachedCommand(
        *common, "--out", path, "--stop-at", "model-call,choice", start=PreparedProcess
    ) as running:
        with DebugClient(running.listening()) as client:
            client.attach()
            halted = client.halted()
            assert halted is not None
            halted = next_halt(client, next_halt(client, halted))
            assert client.evaluate(halted, "input_ids.shape[0]") == "1"
            for expression, complaint in IMPOSSIBLE.items():
                answer = client.evaluate(halted, expression)
                assert answer.startswith("✗ ")
                assert complaint in answer
                assert "\n" not in answer
            answer = client.evaluate(halted, "fork(token='w60', temperature=0.5)")
            assert answer == "Continue: run 1 is left behind step 2, and a fork at step 2 goes on."
            # The next halts are the fork's, at its first own step; the choice of the run's step 2 is none.
            halted = next_halt(client, halted)
            assert halted.function == "_sample"
            assert client.evaluate(halted, "model_inputs['input_ids'].shape") == "torch.Size([1, 1])"
            halted = next_halt(client, halted)
            assert client.evaluate(halted, "probs.argmax().item()") == "60"
            client.go_on(halted)
            assert client.halted() is None
        answered = running.answer()
    with open_trace(path) as recording:
        parent, fork = recording.runs
        assert parent.end is not None
        assert (parent.end.status, parent.end.error) == (RunStatus.INTERRUPTED, "left for a fork at step 2")
        assert len(parent.steps) == 2
        assert generated(fork)[:2] == [generated(parent)[0], 60]
        assert answered["token_ids"] == [generated(fork)]
        assert len(generated(fork)) == TOKENS
        assert fork.header.fork is not None
        assert (fork.header.fork.step, fork.header.fork.token) == (2, 60)
    assert check_file(path).whole


def test_a_fork_behind_the_last_step(common: tuple[str | Path, ...], tmp_path: Path) -> None:
    """Nothing is left of the run that could be left, and the fork goes on all the same."""
    path = tmp_path / "run.trace"
    options = ("--stop-steps", "none", "--break", f"step == {TOKENS}")
    with AttachedCommand(*common, "--out", path, *options, start=PreparedProcess) as running:
        with DebugClient(running.listening()) as client:
            client.attach()
            halted = client.halted()
            assert halted is not None
            client.evaluate(halted, "fork(step=3)")
            halted = next_halt(client, halted)
            # Only now is the name there; the program's own code does not see it.
            assert client.evaluate(halted, "callable(fork)") == "True"
            while halted is not None:
                client.go_on(halted)
                halted = client.halted()
        running.answer()
    with open_trace(path) as recording:
        parent, fork = recording.runs
        assert parent.end is not None
        assert parent.end.status is RunStatus.COMPLETE
        assert generated(fork) == generated(parent)


def test_a_program_that_generates_itself_is_not_left(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    with AttachedCommand(path, module="tests.tracer.debugger.halting_late", start=PreparedProcess) as running:
        with DebugClient(running.listening()) as client:
            client.attach()
            halted = client.halted()
            assert halted is not None
            answer = client.evaluate(halted, "fork(token=60)")
            assert answer.startswith("✗ fork: this generate() was called by your program")
            client.go_on(halted)
            assert client.halted() is None
        assert running.wait() == 0
    with open_trace(path) as recording:
        assert len(recording.runs) == 1
        assert recording.complete
