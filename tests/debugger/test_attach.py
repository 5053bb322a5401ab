"""A debugger attaches to the real command and halts in the library's own lines."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hooks.anchors import find_anchors
from tests.debugger.client import DebugClient, Halted
from tests.debugger.command import AttachedCommand
from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import trace_generate
from tests.support.models import tiny_model
from tests.support.network import demo_checkpoint
from tracer import open_trace
from tracer.schema.run import RunStatus, StopName
from tracer.stops import DEFAULT_STOPS
from tracer.tracefile import check_file

TOKENS = 5


class Stops:
    """The places of the stops in the installed library."""

    def __init__(self) -> None:
        anchors = find_anchors(tiny_model(), do_sample=True)
        self.lines = {anchor.stop: anchor.line for anchor in anchors}
        self.files = {anchor.stop: Path(anchor.path) for anchor in anchors}

    def name(self, halted: Halted) -> StopName:
        (stop,) = (
            stop
            for stop, line in self.lines.items()
            if (self.files[stop], line) == (halted.path, halted.line)
        )
        return stop


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
        *("--sample", "--top-k", "5", "--gen", "eos_token_id=null", "--json"),
    )


@pytest.fixture(scope="module")
def undebugged(common: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    done = trace_generate(*common, "--out", tmp_path_factory.mktemp("plain") / "run.trace")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["token_ids"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.trace"


@pytest.fixture
def command(common: tuple[str | Path, ...], path: Path) -> Iterator[Any]:
    """Starts the command on a free port, waits until it listens, and ends it if the test failed."""
    running: list[AttachedCommand] = []

    def start(*arguments: str | Path) -> AttachedCommand:
        if "--port" not in arguments:
            arguments = ("--port", "0", *arguments)
        running.append(AttachedCommand(*common, "--attach", "--out", path, *arguments))
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
            step = 1 + seen[:-1].count(("update", "_sample"))
            local[step, stop] = client.variables(halted)
            if halted.function == "_sample":
                shapes[step, stop] = client.evaluate(halted, 'model_inputs["input_ids"].shape')
            if stop == "choice":
                assert client.evaluate(halted, "next_token_logits.shape") == "torch.Size([1, 100])"
                assert client.evaluate(halted, "(probs > 0).sum().item()") == "5"
                assert client.evaluate(halted, "round(probs.sum().item(), 4)") == "1.0"
            client.go_on(halted)
    functions = {"forward-result": "forward"}
    assert seen == [(stop, functions.get(stop, "_sample")) for stop in DEFAULT_STOPS] * 2
    prompt = shapes[1, "model-call"]
    assert prompt != "torch.Size([1, 1])"
    assert {shape for (step, _), shape in shapes.items() if step == 1} == {prompt}
    assert {shape for (step, _), shape in shapes.items() if step == 2} == {"torch.Size([1, 1])"}
    assert local[1, "choice"]["probs"] == "Tensor"
    assert local[1, "forward-result"].keys() >= {"hidden_states", "logits"}
    assert "probs" not in local[1, "model-call"]
    assert running.answer()["token_ids"] == undebugged
    assert whole(path)


def test_the_debug_console_shows_each_card_once(command: Any, stops: Stops) -> None:
    running = command("--stop-steps", "2")
    with DebugClient(running.port) as client:
        client.attach()
        assert go_through(client, stops) == [*DEFAULT_STOPS]
    printed = "".join(client.output)
    titles = re.findall(r"^ ?\d+ (.+?) ───", printed, re.MULTILINE)
    # What becomes known after the last halt has nowhere to be shown.
    assert titles == [
        *("prepare inputs", "layers", "forward result", "next-token logits", "logits processors"),
        *("logits warpers", "softmax", "choice", "append"),
    ]
    line = stops.lines["choice"]
    assert f"Step 2, before transformers/generation/utils.py:{line}: next_tokens = torch.multi" in printed


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
            assert go_through(client, stops) == [*DEFAULT_STOPS, *DEFAULT_STOPS]
        assert running.answer()["token_ids"] == json.loads(plain.stdout)["token_ids"]
