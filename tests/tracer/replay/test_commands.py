"""`trace-generate replay` and `step` as commands: what they refuse, and that they need no torch."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.caches import cache_argument
from tests.support.command import HEAVY, Ended, call_main, environment
from tests.support.models import GREEDY, SAMPLING
from tests.support.walkthrough import HALTS, LOOP
from tests.tracer.debugger.client import DebugClient
from tests.tracer.debugger.command import AttachedCommand
from tests.tracer.replay.recordings import recorded
from tests.tracer.tracefile.samples import write_trace
from tracer.replay.terminal.commands import COMMANDS

(CACHE,) = cache_argument(None)
OLD = Path(__file__).parents[1] / "tracefile" / "fixtures" / "version-1.trace"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_trace(tmp_path / "run.trace", rows=2)
    return tmp_path / "run.trace"


def step(
    capsys: pytest.CaptureFixture[str], path: Path, *commands: str, options: tuple[str, ...] = ()
) -> Ended:
    """Step through a recording with these commands; the end of them is the end of input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in commands)))
        return call_main(capsys, "step", path, *options)


def halts(text: str) -> list[str]:
    """The prompts, in order: stop and step."""
    return re.findall(r"^\((\S+ \d+)\) ", text, re.MULTILINE)


def answer(text: str, command: str) -> str:
    """What was printed behind a command, up to the next prompt."""
    rest = text.split(f") {command}\n", 1)[1]
    return re.split(r"^\(", rest, maxsplit=1, flags=re.MULTILINE)[0]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that a command ends with."""
    ended = call_main(capsys, *arguments)
    assert ended.returncode in (2, 8)
    (line,) = ended.stderr.splitlines()
    return line


@pytest.mark.parametrize("command", ["replay", "step"])
def test_what_cannot_be_replayed(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in refusal(capsys, command, tmp_path / "none.trace")
    (tmp_path / "text.trace").write_text("hello")
    assert "is not a trace file" in refusal(capsys, command, tmp_path / "text.trace")
    write_trace(tmp_path / "two.trace", runs=2)
    assert "holds 2 runs; choose one with --run" in refusal(capsys, command, tmp_path / "two.trace")
    assert "has no run 3" in refusal(capsys, command, tmp_path / "two.trace", "--run", "3")
    write_trace(tmp_path / "empty.trace", count=0)
    assert "holds no step" in refusal(capsys, command, tmp_path / "empty.trace")


def test_other_hosts_are_refused_as_with_attach(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("0.0.0.0", "example.com", "192.168.0.1"):
        line = refusal(capsys, "replay", path, "--attach-host", host)
        assert "reads the whole recording" in line
        assert "--allow-remote-attach" in line


def test_a_port_in_use(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "choose another --port" in refusal(capsys, "replay", path, "--port", port)


def test_no_torch_is_loaded(path: Path) -> None:
    program = (
        "import sys\nfrom tracer.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    arguments = [sys.executable, "-c", program, "replay", str(path), "--port", "0"]
    with subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().rpartition(":")[2])
        with DebugClient(port) as client:
            client.attach()
            client.halted()
            for command in ("next", "stepOut", "stepBack", "continue", "reverseContinue"):
                client.request(command, threadId=1)
                halted = client.halted()
                assert halted is not None
                for scope in client.request("scopes", frameId=halted.frame)["scopes"]:
                    client.request("variables", variablesReference=scope["variablesReference"])
            for question in ("why", "whatif temperature=1", "p_chosen < 0.3", "probs[0]", "help"):
                client.request("evaluate", expression=question, context="repl")
            client.request("disconnect", terminateDebuggee=True)
        printed, _ = process.communicate(timeout=60)
    assert printed.splitlines()[-1] == "[]"
    done = subprocess.run(
        [sys.executable, "-c", program, "step", str(path)],
        input="n\nb\ng 2\nu step == 3\nrc step == 2\nwhy\nwhatif temperature=1\nkv\ntop\np probs\nw\nl\nh\n",
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_command_says_where_it_waits_and_ends_with_ctrl_c(path: Path) -> None:
    with AttachedCommand("replay", path, "--port", "0") as command:
        port = command.listening()
        command.said("Attach to trace-generate")
        with DebugClient(port) as client:
            client.attach()
            assert client.halted() is not None
            command.said("Debugger attached.")
            command.interrupt()
            assert command.wait() == 130


def test_an_older_format_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    ended = step(capsys, OLD, "n", "sb", "c", options=("--run", "1"))
    assert ended.returncode == 0
    assert "✗" not in ended.stdout


def test_stop_by_stop_there_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    run = recorded(**GREEDY)
    ended = step(capsys, run.path, *["n"] * 2, "", *["b"] * 4)
    stops = HALTS[:4]
    there = [f"{stop} 1" for stop in stops]
    assert halts(ended.stdout) == [*there, *there[::-1][1:], there[0]]
    assert "The recording begins here." in ended.stdout


def test_token_by_token_and_to_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    ended = step(capsys, recorded(**GREEDY).path, "s", "s", "sb", "n", "g 4", "s", "g 9", "g x", "q")
    steps = ["model-call 1", "model-call 2", "model-call 3", "model-call 2", "forward-result 2"]
    assert halts(ended.stdout) == [*steps, *["model-call 4"] * 4]
    assert "The run ended with step 4." in ended.stdout.rpartition(") g 4\n")[2].partition(") g 9\n")[0]
    assert "step 9 was not recorded" in answer(ended.stdout, "g 9")
    assert "no number of a step" in answer(ended.stdout, "g x")


def test_to_where_a_condition_holds_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(**GREEDY).path
    ended = step(
        capsys, path, "u step == 3", "rc step == 1", "b step > 2", "c", "c", "rc", "rc", "c", "c", "c"
    )
    passed = ["model-call 1", *(f"stopping {number}" for number in (3, 1, 1, 3, 4, 3))]
    assert halts(ended.stdout) == [*passed, "model-call 1", "stopping 3", "stopping 4", "stopping 4"]
    assert "break: step == 1 holds in step 1" in ended.stdout
    assert "halts where step > 2" in answer(ended.stdout, "b step > 2")
    same = step(capsys, path, "c", options=("--break", "step == 2"))
    assert halts(same.stdout) == ["model-call 1", "stopping 2"]


def test_answers(capsys: pytest.CaptureFixture[str]) -> None:
    run = recorded(2, ("logits", "kv"), 4, **SAMPLING)
    before_softmax = HALTS.index("softmax") - HALTS.index("forward-result")
    ended = step(
        capsys, run.path, "g 2", "n", "w", "l 1", "kv", *["n"] * before_softmax, "p next_token_scores.shape",
        "p model_kwargs", "p entropy", "top 2", "why", "whatif temperature=1", f"diff {run.path}",
        "force id:3", "p nothing", "zz", "h", options=("--row", "1"),
    )  # fmt: skip
    text = ended.stdout
    assert "Qwen2ForCausalLM.forward" in answer(text, "w")
    anchor = run.open().header.anchor("forward-result")
    assert anchor is not None
    assert f"→ {anchor.line}" in answer(text, "l 1")
    assert "after the forward pass of step 2" in answer(text, "kv")
    assert answer(text, "p next_token_scores.shape").split() == ["[2,", "100]", "0:", "2", "1:", "100"]
    assert f"{CACHE}: DynamicCache: 2 layers, 7 slots" in answer(text, "p model_kwargs")
    assert "row 1" in answer(text, "top 2")
    assert "row 1" in answer(text, "why")
    assert "temperature=1" in answer(text, "whatif temperature=1")
    assert "The same, to the last bit" in answer(text, f"diff {run.path}")
    assert "a recording is not changed" in answer(text, "force id:3")
    assert "there is no nothing" in answer(text, "p nothing")
    assert "is no command" in answer(text, "zz")
    for command in COMMANDS:
        assert command.meaning.split()[0] in answer(text, "h")


def test_chosen_stops_and_rows(capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(**GREEDY).path
    ended = step(capsys, path, "n", "b", options=("--stop-at", "choice"))
    assert halts(ended.stdout) == ["choice 1", "choice 2", "choice 1"]
    # What happened on the way is shown with the stop.
    assert f" {LOOP.stops.index('processors')} logits processors ─" in ended.stdout
    assert "does not pass warpers" in refusal(capsys, "step", path, "--stop-at", "warpers")
    assert "no such place to halt" in refusal(capsys, "step", path, "--stop-at", "x")
    assert "row 5 does not exist" in refusal(capsys, "step", path, "--row", "5")
    assert "unknown name" in refusal(capsys, "step", path, "--break", "nothing > 1")


def test_a_recording_that_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path / "run.trace", end=False)
    ended = step(capsys, tmp_path / "run.trace", "c", "b")
    assert "incomplete: it ends with step 4" in answer(ended.stdout, "c")
    assert halts(ended.stdout) == ["model-call 1", "stopping 4", "update 4"]
