"""A client's session: its requests, the moves it asks for, and what it is told at each halt."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from reports.terminal import render_card
from reports.view.stops.step import stop_title
from tracer.errors import TraceGenerateError, UsageError
from tracer.messages import named, one_line, reason
from tracer.replay.answers.console import STEP
from tracer.replay.answers.questions import as_text
from tracer.replay.cards import cards_at
from tracer.replay.dap.arguments import (
    Arguments,
    Completions,
    Disconnect,
    Evaluate,
    Goto,
    GotoTargets,
    Initialize,
    NoArguments,
    OfFrame,
    OfThread,
    SetBreakpoints,
    SetExceptionBreakpoints,
    SourceText,
    StackTrace,
    Variables,
)
from tracer.replay.dap.breaking import BreakRequests
from tracer.replay.dap.capabilities import CAPABILITIES
from tracer.replay.dap.client import Client
from tracer.replay.dap.framing import ContentError, MessageStream
from tracer.replay.dap.inspection import Inspector
from tracer.replay.ending import ending
from tracer.replay.stack.frames import frames_at
from tracer.replay.stack.sources import Sources
from tracer.replay.timeline import Position
from tracer.replay.travel import Halt, Reason, Travel
from tracer.schema.run import STOPS

Asked = TypeVar("Asked", bound=Arguments)

_REASONS: Mapping[Reason, str] = {"beginning": "step", "end": "step"}
"""The protocol's word for a reason, where it has another."""


_GRACE = 0.5
"""Seconds in which ``configurationDone`` follows the filters, if the client sends it at all."""


@dataclass(frozen=True)
class _Handler:
    """How a request is answered.

    Attributes:
        arguments: the type of its arguments.
        handle: makes the body of the answer.
    """

    arguments: type[Arguments]
    handle: Callable[[Any], Mapping[str, Any]]


class Session:
    """Answers the requests of one client.

    Args:
        stream: the connection.
        travel: the journey, which a later client may go on with.
        sources: source files of the run.
        resumed: say that the journey goes on where a client before left it.

    Attributes:
        ended: the client wants the whole program to end.
        left: the client has said that it goes.
    """

    def __init__(
        self, stream: MessageStream, travel: Travel, sources: Sources, *, resumed: bool = False
    ) -> None:
        self.ended = False
        self.left = False
        self._stream = stream
        self._client = Client(stream)
        self._travel = travel
        self._sources = sources
        self._resumed = resumed
        self._inspector = Inspector(travel, sources)
        self._breaks = BreakRequests(travel, sources, self._inspector, self._client)
        self._halt = Halt("entry")
        self._targets: dict[int, Position] = {}
        self._ready: set[str] = set()
        self._lock = threading.Lock()
        self._then: Callable[[], None] | None = None
        self._handlers = self._all_handlers()

    def serve(self) -> None:
        """Answer requests until the client goes.

        Raises:
            FramingError: what arrives is no message of the protocol.
            OSError: the connection is gone.
        """
        while not self.left:
            try:
                message = self._stream.read()
            except ContentError as error:
                self._client.output(f"trace-generate: the client sent {error}; it was skipped.", "important")
                continue
            if message is None:
                return
            with self._lock:
                self._take(message)

    def _take(self, message: Mapping[str, Any]) -> None:
        if message.get("type", "request") != "request":
            return  # an answer, though nothing was asked
        try:
            body = self._handled(message)
        except ValidationError as error:
            self._client.refuse(message, f"{_command(message)}: {reason(error)}")
        except TraceGenerateError as error:
            self._client.refuse(message, one_line(error, 1000))
        except Exception as error:  # noqa: BLE001 - a fault in one answer must not end the session
            self._client.refuse(message, f"a defect of trace-generate: {named(error)}")
        else:
            self._client.answer(message, body)
            then, self._then = self._then, None
            if then is not None:
                then()

    def _handled(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        handler = self._handlers.get(_command(message))
        if handler is None:
            raise UsageError(f"{one_line(_command(message), 40)!r} is no request that a recording answers")
        arguments = message.get("arguments")
        return handler.handle(handler.arguments.model_validate({} if arguments is None else arguments))

    def _all_handlers(self) -> dict[str, _Handler]:
        inspector, breaks = self._inspector, self._breaks
        return {
            **self._handshake(),
            **self._moves(),
            "threads": _Handler(NoArguments, inspector.threads),
            "stackTrace": _Handler(StackTrace, inspector.stack_trace),
            "scopes": _Handler(OfFrame, inspector.scopes),
            "variables": _Handler(Variables, inspector.variables),
            "source": _Handler(SourceText, inspector.source),
            "completions": _Handler(Completions, inspector.completions),
            "evaluate": _Handler(Evaluate, self._evaluate),
            "exceptionInfo": _Handler(OfThread, self._exception_info),
            "setBreakpoints": _Handler(SetBreakpoints, breaks.set_breakpoints),
            "setExceptionBreakpoints": _Handler(SetExceptionBreakpoints, self._set_exception_breakpoints),
            "gotoTargets": _Handler(GotoTargets, self._goto_targets),
        }

    def _handshake(self) -> dict[str, _Handler]:
        return {
            "initialize": _Handler(Initialize, self._initialize),
            "attach": _Handler(NoArguments, self._attach),
            # Nothing is started: the recording is there. Some clients know no other way to begin.
            "launch": _Handler(NoArguments, self._attach),
            "configurationDone": _Handler(NoArguments, lambda _: self._is_ready("configurationDone")),
            "disconnect": _Handler(Disconnect, self._disconnect),
            "terminate": _Handler(NoArguments, self._terminate),
        }

    def _moves(self) -> dict[str, _Handler]:
        travel, rules = self._travel, self._breaks.rules
        return {
            "next": self._move(lambda: travel.stop_by_stop(rules, back=False)),
            "stepIn": self._move(lambda: travel.stop_by_stop(rules, back=False)),
            "stepBack": self._move(lambda: travel.stop_by_stop(rules, back=True)),
            "stepOut": self._move(lambda: travel.token_by_token(rules, back=False)),
            "continue": self._move(lambda: travel.run(rules, back=False), allThreadsContinued=True),
            "reverseContinue": self._move(lambda: travel.run(rules, back=True)),
            "restart": _Handler(NoArguments, lambda _: self._moving(travel.begin)),
            "restartFrame": _Handler(OfFrame, self._restart_frame),
            "goto": _Handler(Goto, self._goto),
            # It stands still already.
            "pause": _Handler(OfThread, lambda _: {}),
        }

    def _move(self, move: Callable[[], Halt], **body: Any) -> _Handler:
        def handle(asked: OfThread) -> Mapping[str, Any]:
            self._inspector.row = self._inspector.row_of(asked.thread_id)
            return self._moving(move, **body)

        return _Handler(OfThread, handle)

    def _moving(self, move: Callable[[], Halt], **body: Any) -> Mapping[str, Any]:
        """Move when the request is answered: a client expects the answer before the halt."""
        self._then = lambda: self._go(move)
        return body

    def _go(self, move: Callable[[], Halt]) -> None:
        """Move, and tell the client where the journey halts; a damaged step ends the move where it began."""
        try:
            halt = move()
        except TraceGenerateError as error:
            self._client.output(f"trace-generate: {error}", "important")
            halt = Halt("step")
        self._halted(halt)

    def _halted(self, halt: Halt) -> None:
        self._halt = halt
        self._targets.clear()
        self._inspector.handles.clear()
        if halt.row is not None:
            self._inspector.row = halt.row
        try:
            text = self._card(halt)
        except TraceGenerateError as error:
            text = f"trace-generate: {error}"
        except Exception as error:  # noqa: BLE001 - the halt itself is worth more than its card
            text = f"The card cannot be shown: {named(error)}"
        self._client.output(text, "stdout")
        self._stopped(halt)

    def _stopped(self, halt: Halt) -> None:
        position = self._travel.position
        title = f"Step {position.step}, stop {STOPS.index(position.stop)} {stop_title(position.stop)}"
        self._client.event(
            "stopped",
            {
                "reason": _REASONS.get(halt.reason, halt.reason),
                "description": f"{title}: {halt.text}" if halt.text else title,
                "text": halt.text or title,
                "threadId": self._inspector.row + 1,
                "allThreadsStopped": True,
                "hitBreakpointIds": list(halt.breakpoints),
            },
        )

    def _card(self, halt: Halt) -> str:
        """What happens at the halt, and where it is."""
        moment = self._travel.moment
        frame = frames_at(moment.position, moment.header, self._sources)[0]
        place = f"{frame.source.file}:{frame.line}: {frame.text}" if frame.source else "a line not recorded"
        cards = cards_at(moment, self._travel.timeline.stops, self._inspector.row)
        text = as_text(*(render_card(card) for card in cards))
        text += f"\nStep {moment.position.step}, before {one_line(place)}\n"
        if halt.text:
            text += f"{halt.reason}: {one_line(halt.text, 500)}\n"
        if halt.reason == "beginning":
            text += "The recording begins here.\n"
        if halt.reason == "end":
            text += f"{ending(moment.run)}\n"
        return text

    def _initialize(self, asked: Initialize) -> Mapping[str, Any]:
        self._inspector.first_line = int(asked.lines_start_at1)
        return CAPABILITIES

    def _attach(self, _: NoArguments) -> Mapping[str, Any]:
        # Only behind the answer of attach may the client configure, and so finish.
        ready = self._is_ready("attach")
        begin = self._then

        def then() -> None:
            self._client.event("initialized")
            if begin is not None:
                begin()

        self._then = then
        return ready

    def _is_ready(self, part: str) -> Mapping[str, Any]:
        """Note a part of the handshake; with both the journey begins."""
        if part not in self._ready:
            self._ready.add(part)
            if len(self._ready) == 2:
                self._then = self._begin
        return {}

    def _set_exception_breakpoints(self, asked: SetExceptionBreakpoints) -> Mapping[str, Any]:
        """Set the filters, with which clients that know no ``configurationDone`` end the handshake."""
        if self._ready == {"attach"}:
            timer = threading.Timer(_GRACE, self._begin_without_word)
            timer.daemon = True
            timer.start()
        return self._breaks.set_exception_breakpoints(asked)

    def _begin_without_word(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # the client may have gone
            self._is_ready("configurationDone")
            then, self._then = self._then, None
            if then is not None:
                then()

    def _begin(self) -> None:
        run = self._travel.moment.run
        steps = self._travel.timeline.steps
        self._client.output(
            f"Run {run.number} of {one_line(run.header.model.name)}: steps {steps[0]} to {steps[-1]}. "
            f"{ending(run)} Type help for what can be asked here."
        )
        position = self._travel.position
        if self._resumed:
            self._client.output(f"Back at step {position.step}, where the connection was lost.")
            self._go(lambda: self._travel.go(position, "entry"))
        else:
            self._go(self._travel.begin)

    def _disconnect(self, asked: Disconnect) -> Mapping[str, Any]:
        self.left = True
        self.ended = asked.terminate_debuggee
        return {}

    def _terminate(self, _: NoArguments) -> Mapping[str, Any]:
        self.left = self.ended = True
        self._then = lambda: self._client.event("terminated")
        return {}

    def _evaluate(self, asked: Evaluate) -> Mapping[str, Any]:
        step = STEP.fullmatch(asked.expression.strip()) if asked.context == "repl" else None
        if step is None:
            return self._inspector.evaluate(asked)
        position = self._travel.timeline.at(int(step[1][:12]))
        self._moving(lambda: self._travel.go(position))
        return {"result": f"step {position.step}", "variablesReference": 0}

    def _restart_frame(self, asked: OfFrame) -> Mapping[str, Any]:
        """Go to the beginning of the step."""
        self._inspector.row = self._inspector.handles.frame(asked.frame_id).row
        position = self._travel.timeline.at(self._travel.position.step)
        return self._moving(lambda: self._travel.go(position, "goto"))

    def _goto_targets(self, asked: GotoTargets) -> Mapping[str, Any]:
        """The stop nearest to a line, in this step and its neighbours, the first and the last."""
        source, timeline = self._breaks.source_of(asked.source), self._travel.timeline
        first_line = self._inspector.first_line
        line, stop = self._breaks.nearest_stop(asked.line + 1 - first_line, source)
        here = self._travel.position
        near = [here, timeline.step_after(here), timeline.step_before(here), timeline.first, timeline.last]
        steps = dict.fromkeys(position.step for position in near if position is not None)
        there = [step for step in steps if stop in timeline.stops_of(step)]
        self._targets = {number: timeline.at(step, stop) for number, step in enumerate(there, 1)}
        label = f"{STOPS.index(stop)} {stop_title(stop)}"
        return {
            "targets": [
                {"id": number, "label": f"step {position.step}: {label}", "line": line - 1 + first_line}
                for number, position in self._targets.items()
            ]
        }

    def _goto(self, asked: Goto) -> Mapping[str, Any]:
        self._inspector.row = self._inspector.row_of(asked.thread_id)
        position = self._targets.get(asked.target_id)
        if position is None:
            raise UsageError(f"there is no target {asked.target_id}; ask for the targets of a line first")
        return self._moving(lambda: self._travel.go(position))

    def _exception_info(self, asked: OfThread) -> Mapping[str, Any]:
        self._inspector.row_of(asked.thread_id)
        if self._halt.reason != "exception":
            raise UsageError("no finding halts the recording here")
        return {
            "exceptionId": self._halt.finding,
            "description": self._halt.text,
            "breakMode": "always",
        }


def _command(message: Mapping[str, Any]) -> str:
    command = message.get("command")
    return command if isinstance(command, str) else ""
