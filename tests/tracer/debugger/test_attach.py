"""A debugger attaches to the real command and halts in the library's own lines."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hooks.loop.anchors import find_anchors
from reports.view.stops.step import stop_title
from tests.support.breadth import slow
from tests.support.checkpoints import TINY, tiny_checkpoint
from tests.support.command import EAGER, call_main, environment, trace_generate
from tests.support.models import tiny_model
from tests.support.network import demo_checkpoint
from tests.support.prepared import PreparedProcess
from tests.support.walkthrough import FIRST_FUNCTION, LOOP, ONLY_SAMPLING, WALKTHROUGH
from tests.tracer.debugger.client import TIMEOUT, DebugClient, Halted
from tests.tracer.debugger.command import ROOT, AttachedCommand
from tracer import open_trace
from tracer.debugger import address, listening
from tracer.debugger.address import require_loopback
from tracer.library.release import installed_release
from tracer.schema.run import Phase, RunStatus, StopName
from tracer.tracefile import check_file

TOKENS = 5


class Stops:
    """The places of the stops in the installed library."""

    def __init__(self) -> None:
        anchors = find_anchors(tiny_model(TINY), installed_release().sample, do_sample=True)
        self.lines = {anchor.stop: anchor.line for anchor in anchors}
        self.files = {anchor.stop: Path(anchor.path) for anchor in anchors}
        # The prefill may call the model at a line of its own.
        self.names = {(Path(anchor.path), anchor.line): anchor.stop for anchor in anchors}

    def name(self, halted: Halted) -> StopName:
        return self.names[halted.path, halted.line]


@pytest.fixture(scope="module")
def stops() -> Stops:
    return Stops()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def common(checkpoint: Path) -> tuple[str | Path, ...]:
    """A sampling run whose random model cannot end early."""
    return (
        *("--model", checkpoint, "--prompt", "w10 w11", "--max-new-tokens", str(TOKENS), "--seed", "3"),
        *("--sample", "--top-k", "5", "--gen", "eos_token_id=null", "--json", *EAGER),
    )


@pytest.fixture(scope="module")
def plain(common: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The answer of the command without a debugger, and what it loaded of one."""
    program = (
        "import sys; from tracer.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert sys.gettrace() is None\n"
        "print([name for name in sys.modules if name.startswith(('debugpy', 'pydevd', 'tracer.debugger'))])"
    )
    out = tmp_path_factory.mktemp("plain") / "run.trace"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, common), "--out", str(out)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def undebugged(plain: list[str]) -> Any:
    return json.loads(plain[0])["token_ids"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.trace"


@pytest.fixture
def command(common: tuple[str | Path, ...], path: Path) -> Iterator[Any]:
    """Starts the command on a free port, waits until it listens, and ends it if the test failed."""
    running: list[AttachedCommand] = []

    def start(*arguments: str | Path, **how: Any) -> AttachedCommand:
        if "--port" not in arguments:
            arguments = ("--port", "0", *arguments)
        running.append(AttachedCommand(*common, "--attach", "--out", path, *arguments, **how))
        running[-1].listening()
        return running[-1]

    yield start
    for each in running:
        each.__exit__(None, None, None)


def whole(path: Path) -> bool:
    """Whether a trace holds every step and its end."""
    assert check_file(path).ok
    with open_trace(path) as recording:
        end = recording.end
        assert end is not None
        return end.status is RunStatus.COMPLETE and len(recording.steps) == TOKENS


def recorded_steps(path: Path) -> list[int]:
    with open_trace(path) as recording:
        return [step.number for step in recording.steps]


def go_through(client: DebugClient, stops: Stops) -> list[StopName]:
    """Continue at each halt, up to the end."""
    seen = []
    while (halted := client.halted()) is not None:
        seen.append(stops.name(halted))
        client.go_on(halted)
    return seen


def test_halts_at_the_stops_of_two_steps(command: Any, stops: Stops, path: Path, undebugged: Any) -> None:
    running = command()
    seen, shapes, local = [], {}, {}
    with DebugClient(running.port) as client:
        client.attach()
        while (halted := client.halted()) is not None:
            stop = stops.name(halted)
            seen.append((stop, halted.function))
            step = 1 + (len(seen) - 1) // len(WALKTHROUGH)
            local[step, stop] = client.variables(halted)
            if stop == "model-call":
                shapes[step, stop] = client.evaluate(halted, 'model_inputs["input_ids"].shape')
            if stop == "choice":
                assert client.evaluate(halted, "next_token_logits.shape") == "torch.Size([1, 100])"
                assert client.evaluate(halted, "(probs > 0).sum().item()") == "5"
                assert client.evaluate(halted, "round(probs.sum().item(), 4)") == "1.0"
            client.go_on(halted)
    functions = {"forward-result": "forward"}
    decode = [(stop, functions.get(stop, "_sample")) for stop in WALKTHROUGH]
    assert seen == [("model-call", FIRST_FUNCTION), *decode[1:], *decode]
    prompt = shapes[1, "model-call"]
    assert prompt != "torch.Size([1, 1])"
    assert {shape for (step, _), shape in shapes.items() if step == 1} == {prompt}
    assert {shape for (step, _), shape in shapes.items() if step == 2} == {"torch.Size([1, 1])"}
    assert local[1, "choice"]["probs"] == "Tensor"
    assert local[1, "forward-result"].keys() >= {"hidden_states", "logits"}
    assert "probs" not in local[1, "model-call"]
    assert running.answer()["token_ids"] == undebugged
    assert whole(path)


def test_what_an_editor_shows(command: Any, stops: Stops, path: Path, undebugged: Any) -> None:
    """The halted frame, tensors in words, a step into the model and not into its caller, and the end."""
    launch = json.loads((ROOT / ".vscode/launch.json").read_text(encoding="utf-8"))
    running = command("--stop-at", "model-call,choice", "--stop-steps", "1", start=PreparedProcess)
    with DebugClient(running.port) as client:
        client.attach(rules=launch["configurations"][0]["rules"])
        halted = client.halted()
        assert halted is not None
        assert re.fullmatch(
            r"int64 \[1, \d+\](?: from \d+ to \d+| \[\[.*\]\])",
            client.variables(halted, "value")["input_ids"],
        )
        frames = client.request("stackTrace", threadId=halted.thread)["stackFrames"]
        subtle = {each["name"]: each.get("presentationHint") == "subtle" for each in frames}
        # It folds subtle frames away, were they the one that it halts in.
        assert not subtle["_sample"]
        assert not subtle["generate"]
        assert subtle["decorate_context"]
        inside = client.step_in(halted)
        assert inside is not None
        assert (inside.path.name, inside.function) == (stops.files["forward-result"].name, "forward")
        client.go_on(inside)
        halted = client.halted()
        assert halted is not None
        shown = client.variables(halted, "value")["probs"]
        assert re.fullmatch(r"float32 \[1, 100\] mean 0\.01, std [\d.]+, from 0 to [\d.]+", shown)
        assert client.evaluate(halted, "probs[0, :2]").startswith("tensor([")
        client.go_on(halted)
        assert client.halted() is None
    assert running.answer()["token_ids"] == undebugged
    printed = "".join(client.output)
    assert re.search(r"━━ Answer ━+\n(?:w\d+ ?)+\n", printed)
    assert f"{TOKENS} steps" in printed
    assert str(path) in printed


@pytest.mark.slow
def test_the_debug_console_shows_each_card_once(command: Any, stops: Stops) -> None:
    running = command("--stop-steps", "2")
    with DebugClient(running.port) as client:
        client.attach()
        assert go_through(client, stops) == [*WALKTHROUGH]
    printed = "".join(client.output)
    titles = re.findall(r"^ ?\d+ (.+?) ───", printed, re.MULTILINE)
    # What becomes known after the last halt has nowhere to be shown.
    known = LOOP.stops[1 : LOOP.stops.index(WALKTHROUGH[-1])]
    assert titles == [stop_title(stop) for stop in known]
    line = stops.lines["choice"]
    assert f"Step 2, before transformers/generation/utils.py:{line}: next_tokens = torch.multi" in printed


@pytest.mark.slow
def test_the_port_of_the_walkthrough(command: Any, stops: Stops, undebugged: Any) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 9501)) == 0:
            pytest.skip("port 9501 is taken on this machine")
    running = command("--port", "9501", "--stop-at", "model-call", "--stop-steps", "1")
    assert running.port == 9501
    with DebugClient(9501) as client:
        client.attach()
        assert go_through(client, stops) == ["model-call"]
    assert running.answer()["token_ids"] == undebugged


@pytest.mark.slow
@pytest.mark.demo
def test_the_demo_model(stops: Stops, path: Path) -> None:
    demo_checkpoint()
    options = ("--prompt", "Name three colours.", "--max-new-tokens", "4", "--seed", "5", "--json")
    plain = trace_generate(*options, "--out", path.with_name("plain.trace"))
    with AttachedCommand(*options, "--attach", "--port", "0", "--out", path) as running:
        with DebugClient(running.listening()) as client:
            client.attach()
            assert go_through(client, stops) == [*WALKTHROUGH, *WALKTHROUGH]
        assert running.answer()["token_ids"] == json.loads(plain.stdout)["token_ids"]


@pytest.mark.slow
def test_disconnecting_at_a_stop_lets_the_run_go_on(command: Any, path: Path, undebugged: Any) -> None:
    running = command()
    with DebugClient(running.port) as client:
        client.attach()
        assert client.halted() is not None
        client.disconnect()
    assert running.answer()["token_ids"] == undebugged
    assert "The debugger has left (step 1): the run goes on without halting" in running.stderr
    assert whole(path)


@pytest.mark.slow
def test_a_client_that_dies_at_a_stop(command: Any, path: Path, undebugged: Any) -> None:
    running = command()
    with DebugClient(running.port) as client:
        client.attach()
        assert client.halted() is not None
    assert running.answer()["token_ids"] == undebugged
    assert "The debugger has left" in running.stderr
    assert whole(path)


@pytest.mark.slow
def test_breakpoints_of_the_client_in_the_same_file(command: Any, stops: Stops, undebugged: Any) -> None:
    running = command("--stop-at", "model-call,choice", "--stop-steps", "2")
    library, append = stops.files["append"], stops.lines["append"]
    with DebugClient(running.port) as client:
        client.attach({library: [append, stops.lines["choice"]]})
        seen = []
        while (halted := client.halted()) is not None:
            seen.append(stops.name(halted))
            if len(seen) == 2:
                # This wipes every breakpoint of the file; of the client's only `append` is left.
                client.set_breakpoints(library, [append])
            if len(seen) == 6:
                client.set_breakpoints(library, [])
            client.go_on(halted)
    assert seen == ["choice", "append", "model-call", "choice", "append", "append"]
    assert running.answer()["token_ids"] == undebugged


@pytest.mark.slow
def test_conditions_and_log_messages_of_the_client_on_the_line_of_a_stop(command: Any, stops: Stops) -> None:
    running = command("--stop-at", "choice,model-call", "--stop-steps", "1")
    with DebugClient(running.port) as client:
        client.attach()
        halted = client.halted()
        assert halted is not None
        own = [
            {"line": stops.lines["choice"], "condition": "input_ids.shape[1] < 0"},
            {"line": stops.lines["model-call"], "logMessage": "length {input_ids.shape[1]}"},
        ]
        client.request("setBreakpoints", source={"path": str(stops.files["choice"])}, breakpoints=own)
        client.go_on(halted)
        assert go_through(client, stops) == ["choice"]
    logged = [line for line in "".join(client.output).splitlines() if line.startswith("length ")]
    assert len(logged) == TOKENS - 1


@pytest.mark.slow
def test_the_trace_is_written_while_the_generation_stands_still(
    command: Any, stops: Stops, path: Path
) -> None:
    running = command("--stop-at", "model-call", "--stop-steps", "3")
    with DebugClient(running.port) as client:
        client.attach()
        halted = client.halted()
        assert halted is not None
        deadline = time.monotonic() + TIMEOUT
        while len(recorded_steps(path)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert recorded_steps(path) == [1, 2]
        client.go_on(halted)
        assert go_through(client, stops) == []
    assert whole(path)


@pytest.mark.slow
def test_attaching_again_gives_the_stops_again(path: Path, stops: Stops) -> None:
    gate = path.with_name("gate")
    with AttachedCommand(path, gate, module="tests.tracer.debugger.pausing") as running:
        with DebugClient(running.listening()) as client:
            client.attach()
            halted = client.halted()
            assert halted is not None
            client.disconnect()
        running.said(r"The debugger has left \(step [12]\)")
        with DebugClient(running.port) as client:
            client.attach()
            gate.touch()
            assert go_through(client, stops) == ["model-call"] * 2
        # The script itself asks afterwards whether everything is undone.
        assert running.wait() == 0, running.stderr
        assert re.search(r"Debugger attached again in step [23]\.", running.stderr)
    assert recorded_steps(path) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("again", "watched"),
    [
        *slow(((), ["1 False", "2 False", "3 False", "4 False"])),
        (("again",), ["1 False", "2 False", "3 True", "4 True"]),
    ],
)
def test_a_run_is_watched_only_while_a_debugger_is_there(
    again: tuple[str, ...], watched: list[str], path: Path
) -> None:
    module = "tests.tracer.debugger.leaving"
    with AttachedCommand(path, *again, module=module, start=PreparedProcess) as running:
        assert running.wait() == 0, running.stderr
        # Whoever attaches afterwards finds the thread as it was.
        assert running.stdout.splitlines() == [*watched, "after True"]


def test_without_attach_no_debugger_is_loaded(plain: list[str]) -> None:
    assert plain[-1] == "[]"


@pytest.mark.slow
def test_just_my_code_does_not_hide_the_stops(command: Any, stops: Stops) -> None:
    running = command("--stop-at", "model-call")
    with DebugClient(running.port) as client:
        client.attach(justMyCode=True)
        assert go_through(client, stops) == ["model-call", "model-call"]
    assert running.wait() == 0


@pytest.mark.slow
def test_nobody_attaches(command: Any, path: Path) -> None:
    running = command("--wait", "0.2")
    assert running.wait() == 11
    assert f"No debugger attached on localhost:{running.port} within 0.2 s." in running.stderr
    assert "Traceback" not in running.stderr
    assert not path.exists()


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_a_debugger_that_leaves_at_once(seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import debugpy

    monkeypatch.setattr(debugpy, "wait_for_client", lambda: None)
    monkeypatch.setattr(debugpy, "is_client_connected", lambda: False)
    said: list[str] = []
    listening._wait(address.LOOPBACK, 1, seconds, said.append)
    assert said[-1] == "Debugger attached."


@pytest.mark.slow
def test_ctrl_c_while_waiting(command: Any, path: Path) -> None:
    running = command()
    running.interrupt()
    assert running.wait() == 130
    assert running.stderr.endswith("trace-generate: interrupted\n")
    assert not path.exists()


@pytest.mark.slow
def test_a_condition_halts_at_the_end_of_its_step(command: Any, stops: Stops, undebugged: Any) -> None:
    running = command("--stop-steps", "none", "--break", "step == 3 and p_chosen > 0")
    with DebugClient(running.port) as client:
        client.attach()
        halted = client.halted()
        assert halted is not None
        assert (halted.path, halted.line) == (stops.files["stopping"], stops.lines["stopping"] + 1)
        assert client.evaluate(halted, "next_tokens.tolist()") == f"[{undebugged[0][2]}]"
        client.go_on(halted)
        assert client.halted() is None
    assert "break: step == 3 and p_chosen > 0 holds in step 3" in "".join(client.output)
    assert running.answer()["token_ids"] == undebugged


@pytest.mark.slow
def test_the_script_of_a_session(checkpoint: Path, path: Path) -> None:
    # The random model's settings are greedy: no warper, and another statement chooses.
    anchors = find_anchors(tiny_model(TINY), installed_release().sample, do_sample=False)
    lines: dict[Phase, dict[StopName, int]] = {
        phase: {each.stop: each.line for each in anchors if each.phase in (None, phase)}
        for phase in ("prefill", "decode")
    }
    options = ("--port", "0", "--max-new-tokens", "3", "--out", path)
    with AttachedCommand(checkpoint, *options, module="examples.main") as running:
        with DebugClient(running.listening()) as client:
            client.attach()
            seen = []
            while (halted := client.halted()) is not None:
                seen.append(halted.line)
                client.go_on(halted)
        assert running.wait() == 0, running.stderr
    passed = [stop for stop in WALKTHROUGH if stop not in ONLY_SAMPLING]
    assert seen == [lines[phase][stop] for phase in lines for stop in passed]
    assert running.stdout.strip()
    assert recorded_steps(path) == [1, 2, 3]


@pytest.mark.slow
def test_a_process_that_a_debugger_started(
    common: tuple[str | Path, ...], path: Path, stops: Stops, undebugged: Any
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    under = ("--listen", f"127.0.0.1:{port}", "--wait-for-client", "-m", "tracer")
    with AttachedCommand(*under, *common, "--attach", "--out", path, module="debugpy") as running:
        with DebugClient.patient(port) as client:
            client.attach()
            assert go_through(client, stops) == [*WALKTHROUGH, *WALKTHROUGH]
        assert running.answer()["token_ids"] == undebugged
    assert "Waiting" not in running.stderr


@pytest.mark.slow
def test_disconnecting_at_the_very_moment_of_a_halt(path: Path) -> None:
    with AttachedCommand(path, module="tests.tracer.debugger.halting_late") as running:
        with DebugClient(running.listening()) as client:
            client.attach()
            running.said("about to halt")
            client.disconnect()
        assert running.wait() == 0, running.stderr
    assert recorded_steps(path) == [1, 2, 3, 4]


@pytest.mark.slow
def test_ctrl_c_at_a_halt(command: Any, path: Path) -> None:
    running = command()
    with DebugClient(running.port) as client:
        client.attach()
        assert client.halted() is not None
        running.interrupt()
    # Pydevd may have been answering the client just then and have swallowed it; it counts all the same.
    assert running.wait() == 130
    with open_trace(path) as recording:
        assert recording.end is not None
        assert recording.end.status is RunStatus.INTERRUPTED


@pytest.mark.slow
def test_a_port_that_is_taken(common: tuple[str | Path, ...], path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = trace_generate(*common, "--attach", "--port", str(port), "--out", path)
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if "trace-generate:" in line)
    assert f"Cannot listen on 127.0.0.1:{port}" in line
    assert line.endswith("choose another --port.")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--port", "9501"), "--port needs --attach."),
        (("--stop-at", "choice"), "--stop-at needs --attach"),
        (("--attach", "--stop-at", "choices"), "Did you mean choice?"),
        (("--attach", "--stop-steps", "0"), "expected step numbers"),
        (("--attach", "--wait", "0"), "--wait"),
        (("--attach", "--attach-host", "0.0.0.0"), "whoever reaches a debugger port runs any code as you"),
        (("--attach", "--attach-host", "::"), "pass --allow-remote-attach"),
        (("--attach", "--attach-host", "example.org"), "ssh -L 9501:localhost:9501"),
    ],
    ids=str,
)
def test_refused_before_a_model_is_loaded(
    arguments: tuple[str, ...], expected: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = path.with_name("no such model")
    ended = call_main(capsys, "--model", missing, "--prompt", "w10", "--out", path, *arguments)
    assert ended.returncode == 2
    assert expected in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_is_no_risk(host: str) -> None:
    require_loopback(host, 9501, allow_remote=False)
