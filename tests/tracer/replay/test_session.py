"""A debugger on a recording."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.caches import cache_argument
from tests.support.models import SAMPLING, tiny_model
from tests.support.walkthrough import HALTS
from tests.tracer.debugger.client import DebugClient, Halted
from tests.tracer.replay.recordings import Recorded, recorded
from tests.tracer.replay.serving import Served, served
from tests.tracer.tracefile.samples import write_trace
from tracer.replay.dap import server
from tracer.schema.run import StopName

STEPS = 4
ESCAPE = "\x1b"
(CACHE,) = cache_argument(None)
ATTENTION = type(tiny_model().model.layers[0].self_attn).__name__


@pytest.fixture(scope="module")
def run() -> Recorded:
    return recorded(2, ("logits", "kv"), STEPS, **SAMPLING)


@pytest.fixture(scope="module")
def place(run: Recorded) -> Iterator[Served]:
    with served(run.path) as serving:
        yield serving


@pytest.fixture
def client(place: Served) -> Iterator[DebugClient]:
    with place.attach() as attached:
        yield attached
        attached.disconnect()
    _see_off(place)


def _see_off(place: Served) -> None:
    while place.line() != "Debugger detached.":
        pass


@pytest.fixture
def first(client: DebugClient) -> Halted:
    """The halt at which a session begins."""
    halted = client.halted()
    assert halted is not None
    return halted


def move(client: DebugClient, command: str, thread: int = 1, **more: Any) -> dict[str, Any]:
    """Move, and the event that says where it halts."""
    client.request(command, threadId=thread, **more)
    body: dict[str, Any] = client.event("stopped")["body"]
    return body


def where(client: DebugClient) -> tuple[int, StopName]:
    """Step and stop at which it stands, by what the console answers and by the line."""
    top = client.request("stackTrace", threadId=1)["stackFrames"][0]
    step = client.request("evaluate", expression="step", frameId=top["id"])["result"]
    return int(step), LINES[top["line"]]


LINES: dict[int, StopName] = {}


@pytest.fixture(autouse=True)
def lines(run: Recorded) -> None:
    LINES.update({anchor.line: anchor.stop for anchor in run.open().header.anchors})


def parts(client: DebugClient, reference: int, **more: Any) -> dict[str, dict[str, Any]]:
    """The parts of a value by name."""
    found = client.request("variables", variablesReference=reference, **more)["variables"]
    return {each["name"]: each for each in found}


def scopes(client: DebugClient, thread: int = 1) -> dict[str, dict[str, dict[str, Any]]]:
    """The parts of every scope by name."""
    top = client.request("stackTrace", threadId=thread)["stackFrames"][0]
    found = client.request("scopes", frameId=top["id"])["scopes"]
    return {each["name"]: parts(client, each["variablesReference"]) for each in found}


def test_there_and_back_over_all_stops(client: DebugClient, first: Halted) -> None:
    seen = [where(client)]
    while len(seen) < STEPS * len(HALTS):
        assert move(client, "next")["reason"] == "step"
        seen.append(where(client))
    assert seen == [(step, stop) for step in range(1, STEPS + 1) for stop in HALTS]
    assert "The run ended with step 4" not in "".join(client.output[-2:])
    assert move(client, "next")["reason"] == "step"
    assert where(client) == seen[-1]
    assert "The run ended with step 4." in client.output[-1]
    back = [where(client)]
    while len(back) < len(seen):
        move(client, "stepBack")
        back.append(where(client))
    assert back == seen[::-1]
    move(client, "stepBack")
    assert "The recording begins here." in client.output[-1]
    assert where(client) == seen[0]


def test_other_moves(client: DebugClient, first: Halted) -> None:
    moves: list[tuple[str, tuple[int, StopName]]] = [
        ("stepIn", (1, "forward-result")),
        ("stepOut", (2, "model-call")),
        ("stepOut", (3, "model-call")),
        ("continue", (STEPS, "stopping")),
        ("reverseContinue", (1, "model-call")),
    ]
    for command, expected in moves:
        move(client, command)
        assert where(client) == expected, command
    client.request("evaluate", expression="step 3", context="repl")
    assert client.event("stopped")["body"]["reason"] == "goto"
    move(client, "stepBack")
    assert where(client) == (2, "stopping")
    top = client.request("stackTrace", threadId=1)["stackFrames"][0]
    client.request("restartFrame", frameId=top["id"])
    client.event("stopped")
    assert where(client) == (2, "model-call")
    client.request("restart")
    client.event("stopped")
    assert where(client) == (1, "model-call")


@pytest.mark.parametrize(
    ("command", "asked"), [("evaluate", {"expression": "step 3", "context": "repl"}), ("restart", {})]
)
def test_a_move_that_no_request_implies_is_announced(
    client: DebugClient, first: Halted, command: str, asked: dict[str, Any]
) -> None:
    """An editor takes the first halt since it went on for the present one."""
    client.request(command, **asked)
    assert client.event("continued", "stopped")["event"] == "continued"
    client.event("stopped")


@pytest.mark.parametrize("styled", [False, True])
def test_colours_are_for_a_client_that_shows_them(place: Served, styled: bool) -> None:
    with DebugClient(place.port) as client:
        client.attach(styled=styled)
        assert client.halted() is not None
        why = client.request("evaluate", expression="why", context="repl")["result"]
        watched = client.request("evaluate", expression="why", context="watch")["result"]
        client.disconnect()
    _see_off(place)
    assert [ESCAPE in text for text in (client.output[-1], why, watched)] == [styled, styled, False]
    # Links are for terminals.
    assert not any(f"{ESCAPE}]8;" in text for text in (*client.output, why))
    assert re.sub(rf"{ESCAPE}\[[\d;]*m", "", why) == watched


def test_goto(client: DebugClient, first: Halted) -> None:
    line = next(line for line, stop in LINES.items() if stop == "append")
    asked = {"source": {"path": str(first.path)}, "line": line + 1}
    targets = client.request("gotoTargets", **asked)["targets"]
    assert [target["label"] for target in targets] == [f"step {step}: 9 append" for step in (1, 2, 4)]
    assert {target["line"] for target in targets} == {line}
    move(client, "goto", targetId=targets[1]["id"])
    assert where(client) == (2, "append")
    assert "there is no target" in client.refused("goto", threadId=1, targetId=1)
    assert "no stop" in client.refused("gotoTargets", source={"path": "/x.py"}, line=1)


def test_the_card_is_printed_at_each_halt(client: DebugClient, first: Halted) -> None:
    move(client, "next")
    text = client.output[-1]
    assert " 2 layers ─" in text
    assert " 3 forward result ─" in text
    assert text.endswith(": loss = None\n")
    assert "Step 1, before transformers/models/qwen2/modeling_qwen2.py:" in text


def test_breakpoints(client: DebugClient, first: Halted) -> None:
    line = next(line for line, stop in LINES.items() if stop == "choice")
    (bound,) = client.request(
        "setBreakpoints",
        source={"path": str(first.path)},
        breakpoints=[{"line": line + 1, "condition": "step > 1", "hitCondition": "2"}],
    )["breakpoints"]
    assert (bound["verified"], bound["line"]) == (True, line)
    assert bound["message"] == f"moved to line {line}, stop 8 choice"
    halt = move(client, "continue")
    assert (halt["reason"], halt["hitBreakpointIds"]) == ("breakpoint", [bound["id"]])
    assert where(client) == (3, "choice")
    # The file is named as another machine would; the breakpoints are of the same file all the same.
    other = "C:\\python\\site-packages\\transformers\\generation\\utils.py"
    client.request(
        "setBreakpoints",
        source={"path": other},
        breakpoints=[{"line": line, "logMessage": "took {token_id} of {probs.shape} {nothing}"}],
    )
    client.output.clear()
    assert move(client, "continue")["reason"] == "step"
    assert where(client) == (STEPS, "stopping")
    chosen = recorded(2, ("logits", "kv"), STEPS, **SAMPLING).open().steps[3].choice()
    assert chosen is not None
    assert client.output[0].startswith(f"took {chosen.token} of [2, 100] {{there is no nothing")
    (refused,) = client.request(
        "setBreakpoints", source={"path": other}, breakpoints=[{"line": line, "condition": "p <"}]
    )["breakpoints"]
    assert not refused["verified"]
    assert "cannot be read" in refused["message"]
    (nowhere,) = client.request("setBreakpoints", source={"path": "/nowhere.py"}, breakpoints=[{"line": 3}])[
        "breakpoints"
    ]
    assert not nowhere["verified"]


def test_locals_are_the_frames(client: DebugClient, first: Halted, run: Recorded) -> None:
    client.request("evaluate", expression="step 2", context="repl")
    client.event("stopped")
    for stop in HALTS:
        if stop != "model-call":
            move(client, "next")
        frame = run.frames[2, stop]
        local = scopes(client)["Locals"]
        if stop == "append":
            tokens = parts(client, local["next_tokens"]["variablesReference"], filter="indexed")
            assert [each["value"] for each in tokens.values()] == [
                str(token) for token in frame["next_tokens"].tolist()
            ]
            kwargs = parts(client, local["model_kwargs"]["variablesReference"])
            cache = parts(client, kwargs[CACHE]["variablesReference"], filter="indexed")
            assert len(cache) == 2
        for each in local.values():
            found = client.request("evaluate", expression=each["evaluateName"], context="watch")
            assert found["result"] == each["value"]


def test_values_come_in_pages(client: DebugClient, first: Halted, run: Recorded) -> None:
    client.request("evaluate", expression="step 2", context="repl")
    client.event("stopped")
    for _ in range(HALTS.index("processors")):
        move(client, "next")
    logits = scopes(client)["Locals"]["next_token_logits"]
    assert (logits["indexedVariables"], logits["namedVariables"]) == (2, 3)
    row = parts(client, logits["variablesReference"], filter="indexed", start=1, count=1)["1"]
    page = parts(client, row["variablesReference"], filter="indexed", start=40, count=7)
    assert [*page] == [str(token) for token in range(40, 47)]
    real = run.frames[2, "processors"]["next_token_logits"][1, 40:47].numpy()
    np.testing.assert_array_equal(np.array([each["value"] for each in page.values()], np.float32), real)
    assert page["40"]["evaluateName"] == "next_token_logits[1][40]"
    assert {*parts(client, logits["variablesReference"], filter="named")} == {"shape", "dtype", "device"}
    assert not parts(client, logits["variablesReference"], filter="indexed", start=9, count=7)


def test_scopes_are_the_recording(client: DebugClient, first: Halted, run: Recorded) -> None:
    client.request("evaluate", expression="step 3", context="repl")
    client.event("stopped")
    step = run.open().steps[2]
    for row in (0, 1):
        found = scopes(client, row + 1)
        candidates = found["Candidates"]
        assert len(candidates) == len(step.candidates_of(row))
        for each, shown in zip(step.candidates_of(row), candidates.values(), strict=True):
            inside = parts(client, shown["variablesReference"])
            assert int(inside["token"]["value"]) == each.token
            assert np.float32(inside["raw logit"]["value"]) == np.float32(each.raw)
            assert np.float32(inside["probability"]["value"]) == np.float32(each.probability)
            # Before the number, so that a narrow list does not cut it off.
            marked = "← chosen: " in shown["value"]
            choice = step.choice(row)
            assert choice is not None
            assert marked == (each.token == choice.token)
    modules = found["Modules"]
    layers = parts(
        client, parts(client, modules["model"]["variablesReference"])["layers"]["variablesReference"]
    )
    attention = parts(client, layers["1"]["variablesReference"])["self_attn"]
    assert attention["value"].startswith(f"{ATTENTION}: [2, 1, 32] float32 cpu, mean ")
    saved = parts(client, modules["saved tensors"]["variablesReference"])
    assert {*saved} == {*run.open().tensor_names(3)}
    assert [*found["KV cache"]] == ["layer 0", "layer 1"]
    assert all(each["value"].startswith("checked: ") for each in found["Checks"].values())


def test_rows_are_threads(client: DebugClient, first: Halted) -> None:
    threads = client.request("threads")["threads"]
    assert threads == [{"id": 1, "name": "row 0"}, {"id": 2, "name": "row 1"}]
    assert move(client, "next", thread=2)["threadId"] == 2
    for _ in range(HALTS.index("processors") - 1):
        move(client, "next", thread=2)
    assert "row 1" in client.output[-1]
    line = next(line for line, stop in LINES.items() if stop == "choice")
    client.request(
        "setBreakpoints",
        source={"path": str(first.path)},
        breakpoints=[{"line": line, "condition": "row == 1"}],
    )
    assert move(client, "continue")["threadId"] == 2


def test_what_does_not_exist_is_said(client: DebugClient, first: Halted) -> None:
    assert "no thread 9" in client.refused("next", threadId=9)
    assert "no thread 0" in client.refused("stackTrace", threadId=0)
    assert "no frame 12345" in client.refused("scopes", frameId=12345)
    assert "no variables reference 777" in client.refused("variables", variablesReference=777)
    assert "no source 5" in client.refused("source", sourceReference=5)
    frame = client.request("stackTrace", threadId=1)["stackFrames"][0]["id"]
    reference = client.request("scopes", frameId=frame)["scopes"][0]["variablesReference"]
    move(client, "next")
    for message in (
        client.refused("scopes", frameId=frame),
        client.refused("variables", variablesReference=reference),
        client.refused("evaluate", expression="probs", frameId=frame),
    ):
        assert "it belongs to an earlier halt" in message
    assert "no request that a recording answers" in client.refused("setVariable", name="x")
    assert "step 99 was not recorded" in client.refused("evaluate", expression="step 99", context="repl")
    assert "no finding halts" in client.refused("exceptionInfo", threadId=1)
    filters = client.request("setExceptionBreakpoints", filters=["all", "not finite"])["breakpoints"]
    assert [each["verified"] for each in filters] == [False, True]
    assert client.request("pause", threadId=1) == {}


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("next", {}),
        ("next", {"threadId": "1"}),
        ("next", {"threadId": None}),
        ("variables", {"variablesReference": 1.5}),
        ("variables", {"variablesReference": 1, "filter": "other"}),
        ("setBreakpoints", {"source": 3}),
        ("setBreakpoints", {"source": {"path": "x"}, "breakpoints": {"line": 1}}),
        ("evaluate", {"expression": ["x"]}),
        ("initialize", {"linesStartAt1": "yes"}),
    ],
)
def test_arguments_that_make_no_sense(
    client: DebugClient, first: Halted, command: str, arguments: dict[str, Any]
) -> None:
    message = client.refused(command, **arguments)
    assert message.startswith(f"{command}: ")
    assert "\n" not in message
    assert where(client) == (1, "model-call")


def test_messages_that_make_no_sense(client: DebugClient, first: Halted) -> None:
    for body in (b"{", b"[1, 2]", b"null"):
        client.send_bytes(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    for body in (b"{}", b'{"type": "event", "event": "x"}', b'{"type": "request", "seq": "x", "command": 7}'):
        client.send_bytes(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    assert where(client) == (1, "model-call")
    assert sum("it was skipped" in line for line in client.output) == 3


def test_lines_from_zero(place: Served, run: Recorded) -> None:
    with DebugClient(place.port) as client:
        client.request("initialize", linesStartAt1=False)
        client.request("attach")
        line = next(line for line, stop in LINES.items() if stop == "choice")
        header = run.open().header
        anchor = header.anchor("choice")
        assert anchor is not None
        source = {"path": anchor.path}
        (bound,) = client.request("setBreakpoints", source=source, breakpoints=[{"line": line - 1}])[
            "breakpoints"
        ]
        assert (bound["line"], "message" in bound) == (line - 1, False)
        client.request("configurationDone")
        client.event("stopped")
        top = client.request("stackTrace", threadId=1)["stackFrames"][0]
        assert LINES[top["line"] + 1] == "model-call"
        client.disconnect()


def test_a_client_that_knows_no_end_of_the_handshake(place: Served) -> None:
    with DebugClient(place.port) as client:
        client.request("initialize")
        client.request("attach")
        client.request("setExceptionBreakpoints", filters=["all"])
        assert client.event("stopped")["body"]["reason"] == "entry"
        client.request("configurationDone")  # too late to begin again
        move(client, "next")
        assert where(client) == (1, "forward-result")
        client.disconnect()


def test_a_second_client_is_refused_and_the_first_goes_on(
    place: Served, client: DebugClient, first: Halted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_GRACE", 0.05)  # it waits whether the first is about to leave
    with DebugClient(place.port) as second:
        assert "another debugger is attached" in second.refused("initialize", adapterID="x")
    move(client, "next")
    assert where(client) == (1, "forward-result")


def test_a_client_that_is_cut_off_goes_on_where_it_was(run: Recorded) -> None:
    with served(run.path) as place:
        with place.attach() as cut:
            cut.halted()
            move(cut, "stepOut")
        while "cut off" not in place.line():
            pass
        with place.attach() as again:
            assert again.halted() is not None
            assert where(again) == (2, "model-call")
            assert any("Back at step 2" in line for line in again.output)
            again.disconnect()
        while place.line() != "Debugger detached.":
            pass
        with place.attach() as fresh:
            assert fresh.halted() is not None
            assert where(fresh) == (1, "model-call")
            fresh.disconnect()


def test_what_is_no_debugger_is_cut_off_and_said(run: Recorded) -> None:
    with served(run.path) as place:
        with DebugClient(place.port) as browser:
            browser.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert place.line() == "Debugger attached."
            assert "it sent no message of the protocol: GET / HTTP/1.1" in place.line()
        with place.attach() as client:
            assert client.halted() is not None
            client.disconnect()


def test_text_of_another_release_comes_from_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, end=False)
    with served(path) as place, place.attach() as client:
        client.event("stopped")
        top = client.request("stackTrace", threadId=1)["stackFrames"][0]
        assert "from the trace" in top["source"]["origin"]
        reference = top["source"]["sourceReference"]
        text = client.request("source", sourceReference=reference)["content"]
        assert (
            text.splitlines()[top["line"] - 1].strip() == "outputs = self(**model_inputs, return_dict=True)"
        )
        (bound,) = client.request(
            "setBreakpoints", source={"sourceReference": reference}, breakpoints=[{"line": 3020}]
        )["breakpoints"]
        assert bound["verified"]
        assert move(client, "continue")["reason"] == "breakpoint"
        move(client, "continue")
        client.request("setBreakpoints", source={"sourceReference": reference}, breakpoints=[])
        move(client, "continue")
        assert "The recording is incomplete: it ends with step 4" in client.output[-1]
        client.disconnect()


def test_a_damaged_step_is_said_and_the_rest_is_there(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    write_trace(path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE step SET head = X'00' WHERE step = 2")
    database.close()
    with served(path) as place, place.attach() as client:
        client.event("stopped")
        move(client, "stepOut")
        assert any("step 2" in line and "trace-generate: " in line for line in client.output)
        move(client, "stepOut")
        top = client.request("stackTrace", threadId=1)["stackFrames"][0]
        assert client.request("evaluate", expression="step", frameId=top["id"])["result"] == "3"
        client.disconnect()
