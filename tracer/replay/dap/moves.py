"""Requests that move, and what the client is told at each halt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reports.terminal import render_card
from reports.view.stops.step import stop_title
from tracer.errors import TraceGenerateError, UsageError
from tracer.messages import named, one_line
from tracer.replay.answers.console import STEP
from tracer.replay.answers.questions import as_text
from tracer.replay.cards import cards_at
from tracer.replay.dap.arguments import Evaluate, Goto, GotoTargets, NoArguments, OfFrame, OfThread
from tracer.replay.dap.breaking import BreakRequests
from tracer.replay.dap.client import Client
from tracer.replay.dap.inspection import Inspector
from tracer.replay.dap.requests import Handler, Handlers, Reply
from tracer.replay.ending import ending
from tracer.replay.stack.frames import frames_at
from tracer.replay.stack.sources import Sources
from tracer.replay.timeline import Position
from tracer.replay.travel import Reason, Standstill, Travel
from tracer.schema.run import StopName

_REASONS: Mapping[Reason, str] = {"beginning": "step", "end": "step"}
"""The protocol's word for a reason, where it has another."""


class Moves:
    """Moves through the recording, and reports the halts.

    Args:
        travel: the journey.
        sources: source files of the run.
        inspector: knows the client's thread and lines, and forgets what it has seen.
        breaks: what halts the journey.
        client: who is told.
    """

    def __init__(
        self, travel: Travel, sources: Sources, inspector: Inspector, breaks: BreakRequests, client: Client
    ) -> None:
        self._travel = travel
        self._sources = sources
        self._inspector = inspector
        self._breaks = breaks
        self._client = client
        self._halt = Standstill("entry")
        self._targets: dict[int, Position] = {}

    def handlers(self) -> Handlers:
        """Who answers the requests that move."""
        travel, rules = self._travel, self._breaks.rules
        return {
            "next": self._move(lambda: travel.stop_by_stop(rules, back=False)),
            "stepIn": self._move(lambda: travel.stop_by_stop(rules, back=False)),
            "stepBack": self._move(lambda: travel.stop_by_stop(rules, back=True)),
            "stepOut": self._move(lambda: travel.token_by_token(rules, back=False)),
            "continue": self._move(lambda: travel.run(rules, back=False), allThreadsContinued=True),
            "reverseContinue": self._move(lambda: travel.run(rules, back=True)),
            "restart": Handler(NoArguments, lambda _: Reply(then=lambda: self._go_unasked(travel.begin))),
            "restartFrame": Handler(OfFrame, self._restart_frame),
            "gotoTargets": Handler(GotoTargets, self._goto_targets),
            "goto": Handler(Goto, self._goto),
            "evaluate": Handler(Evaluate, self._evaluate),
            "exceptionInfo": Handler(OfThread, self._exception_info),
            # It stands still already.
            "pause": Handler(OfThread, lambda _: {}),
        }

    def go(self, move: Callable[[], Standstill]) -> None:
        """Move, and tell the client where the journey halts.

        Args:
            move: the move; if it comes to a damaged step, the journey stays where it was.
        """
        try:
            halt = move()
        except TraceGenerateError as error:
            self._client.output(f"trace-generate: {error}", "important")
            halt = Standstill("step")
        self._halt = halt
        self._targets.clear()
        self._inspector.handles.clear()
        if halt.row is not None:
            self._inspector.row = halt.row
        self._client.output(self._shown(halt), "stdout")
        self._client.event("stopped", self._stopped(halt))

    def _go_unasked(self, move: Callable[[], Standstill]) -> None:
        """Move after a request that implies none; an editor would go on to show why it halted before."""
        self._client.event("continued", {"threadId": self._inspector.row + 1, "allThreadsContinued": True})
        self.go(move)

    def _shown(self, halt: Standstill) -> str:
        try:
            return self._card(halt)
        except TraceGenerateError as error:
            return f"trace-generate: {error}"
        except Exception as error:  # noqa: BLE001 - the halt itself is worth more than its card
            return f"The card cannot be shown: {named(error)}"

    def _card(self, halt: Standstill) -> str:
        """What happens at the halt, and where it is."""
        moment = self._travel.moment
        frame = frames_at(moment.position, moment.header, self._sources)[0]
        place = f"{frame.source.file}:{frame.line}: {frame.text}" if frame.source else "a line not recorded"
        cards = cards_at(moment, self._travel.timeline.stops, self._inspector.row)
        lines = [
            as_text(*(render_card(card) for card in cards), styled=self._inspector.styled),
            f"Step {moment.position.step}, before {one_line(place)}",
        ]
        if halt.text:
            lines.append(f"{halt.reason}: {one_line(halt.text, 500)}")
        if halt.reason == "beginning":
            lines.append("The recording begins here.")
        if halt.reason == "end":
            lines.append(ending(moment.run))
        return "\n".join(lines)

    def _stopped(self, halt: Standstill) -> dict[str, Any]:
        position = self._travel.position
        title = f"Step {position.step}, stop {self._titled(position.stop)}"
        return {
            "reason": _REASONS.get(halt.reason, halt.reason),
            "description": f"{title}: {halt.text}" if halt.text else title,
            "text": halt.text or title,
            "threadId": self._inspector.row + 1,
            "allThreadsStopped": True,
            "hitBreakpointIds": list(halt.breakpoints),
        }

    def _titled(self, stop: StopName) -> str:
        return f"{self._travel.moment.header.number(stop)} {stop_title(stop)}"

    def _move(self, move: Callable[[], Standstill], **body: Any) -> Handler:
        def handle(asked: OfThread) -> Reply:
            self._inspector.row = self._inspector.row_of(asked.thread_id)
            return self._moving(move, **body)

        return Handler(OfThread, handle)

    def _moving(self, move: Callable[[], Standstill], **body: Any) -> Reply:
        return Reply(body, lambda: self.go(move))

    def _evaluate(self, asked: Evaluate) -> Reply:
        """The value of an expression; in the console a step to go to, too."""
        step = STEP.fullmatch(asked.expression.strip()) if asked.context == "repl" else None
        if step is None:
            return Reply(self._inspector.evaluate(asked))
        position = self._travel.timeline.at(int(step[1][:12]))
        return Reply(
            {"result": f"step {position.step}", "variablesReference": 0},
            lambda: self._go_unasked(lambda: self._travel.go(position)),
        )

    def _restart_frame(self, asked: OfFrame) -> Reply:
        """Go to the beginning of the step."""
        self._inspector.row = self._inspector.handles.frame(asked.frame_id).row
        position = self._travel.timeline.at(self._travel.position.step)
        return self._moving(lambda: self._travel.go(position))

    def _goto_targets(self, asked: GotoTargets) -> dict[str, Any]:
        """The stop nearest to a line, in this step and its neighbours, the first and the last."""
        source, timeline = self._breaks.source_of(asked.source), self._travel.timeline
        first_line = self._inspector.first_line
        line, stop = self._breaks.nearest_stop(asked.line + 1 - first_line, source)
        here = self._travel.position
        near = [here, timeline.step_after(here), timeline.step_before(here), timeline.first, timeline.last]
        steps = dict.fromkeys(position.step for position in near if position is not None)
        there = [step for step in steps if stop in timeline.stops_of(step)]
        self._targets = {number: timeline.at(step, stop) for number, step in enumerate(there, 1)}
        label = self._titled(stop)
        return {
            "targets": [
                {"id": number, "label": f"step {position.step}: {label}", "line": line - 1 + first_line}
                for number, position in self._targets.items()
            ]
        }

    def _goto(self, asked: Goto) -> Reply:
        self._inspector.row = self._inspector.row_of(asked.thread_id)
        position = self._targets.get(asked.target_id)
        if position is None:
            raise UsageError(f"there is no target {asked.target_id}; ask for the targets of a line first")
        return self._moving(lambda: self._travel.go(position))

    def _exception_info(self, asked: OfThread) -> dict[str, Any]:
        """The finding at which the journey halts."""
        self._inspector.row_of(asked.thread_id)
        if self._halt.reason != "exception":
            raise UsageError("no finding halts the recording here")
        return {
            "exceptionId": self._halt.finding,
            "description": self._halt.text,
            "breakMode": "always",
        }
