"""Requests that look at the halt: threads, frames, scopes, variables, sources, expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tracer.errors import UsageError
from tracer.replay.answers.console import Asked, answer, console_completions
from tracer.replay.dap.arguments import (
    Completions,
    Evaluate,
    NoArguments,
    OfFrame,
    SourceText,
    StackTrace,
    Variables,
)
from tracer.replay.dap.handles import FrameHandle, Handles, ValueHandle
from tracer.replay.dap.requests import Handler, Handlers
from tracer.replay.moment import Moment
from tracer.replay.stack.frames import Frame, frames_at
from tracer.replay.stack.sources import Source, Sources
from tracer.replay.travel import Travel
from tracer.replay.values.library import local_variables
from tracer.replay.values.scopes import SCOPES
from tracer.replay.values.value import Fields, Item, Value

PAGE = 1000
"""Parts that are sent at once to a client that does not say how many it wants."""


class Inspector:
    """Answers what a client asks about the present halt.

    Args:
        travel: where the journey stands.
        sources: source files of the run.

    Attributes:
        handles: frames and values that the client has seen.
        row: the row that is meant where a request names none.
        first_line: number that the client gives the first line.
        styled: whether the client shows colours in its console.
    """

    def __init__(self, travel: Travel, sources: Sources) -> None:
        self.handles = Handles()
        self.row = 0
        self.first_line = 1
        self.styled = False
        self._travel = travel
        self._sources = sources

    def handlers(self) -> Handlers:
        """Who answers the requests that look; expressions may move, so they are answered elsewhere."""
        return {
            "threads": Handler(NoArguments, self.threads),
            "stackTrace": Handler(StackTrace, self.stack_trace),
            "scopes": Handler(OfFrame, self.scopes),
            "variables": Handler(Variables, self.variables),
            "source": Handler(SourceText, self.source),
            "completions": Handler(Completions, self.completions),
        }

    def row_of(self, thread: int) -> int:
        """The row of a thread.

        Raises:
            UsageError: there is no such thread.
        """
        rows = self._travel.moment.rows
        if not 1 <= thread <= rows:
            raise UsageError(
                f"there is no thread {thread}; the rows of the batch are the threads 1 to {rows}"
            )
        return thread - 1

    def threads(self, _: NoArguments) -> dict[str, Any]:
        """The rows of the batch."""
        return {"threads": [{"id": row + 1, "name": f"row {row}"} for row in range(self._travel.moment.rows)]}

    def stack_trace(self, asked: StackTrace) -> dict[str, Any]:
        """The frames of a row."""
        row = self.row_of(asked.thread_id)
        frames = self._frames()
        start = max(0, asked.start_frame or 0)
        stop = start + asked.levels if asked.levels else None
        return {
            "stackFrames": [self._frame(frame, row) for frame in frames[start:stop]],
            "totalFrames": len(frames),
        }

    def scopes(self, asked: OfFrame) -> dict[str, Any]:
        """The scopes of a frame."""
        handle = self.handles.frame(asked.frame_id)
        moment = self._travel.moment
        parts = local_variables(moment, handle.frame.kind)
        local = Fields(f"{len(parts)} variables", "", parts)
        found = [self._scope("Locals", local, is_locals=True)]
        found += [self._scope(name, make(moment, handle.row)) for name, make in SCOPES.items()]
        return {"scopes": found}

    def variables(self, asked: Variables) -> dict[str, Any]:
        """The parts of a value."""
        handle = self.handles.value(asked.variables_reference)
        start, count = max(0, asked.start or 0), max(0, asked.count or 0)
        if asked.filter == "named":
            return {"variables": self._named(handle, start, count)}
        if asked.filter == "indexed":
            return {"variables": self._indexed(handle, start, count)}
        return {"variables": [*self._named(handle, 0, 0), *self._indexed(handle, start, count)]}

    def _named(self, handle: ValueHandle, start: int, count: int) -> list[dict[str, Any]]:
        items = handle.value.names()[start : start + count if count else None]
        return [self._variable(item, _named_path(handle, item.name)) for item in items]

    def _indexed(self, handle: ValueHandle, start: int, count: int) -> list[dict[str, Any]]:
        items = handle.value.page(start, count or PAGE)
        found = [
            self._variable(item, _indexed_path(handle, place)) for place, item in enumerate(items, start)
        ]
        left = handle.value.indexed - start - len(items)
        if not count and left > 0:
            found.append({"name": "…", "value": f"{left:,} more", "variablesReference": 0})
        return found

    def source(self, asked: SourceText) -> dict[str, Any]:
        """The text of a source file that is not on this machine."""
        number = asked.source_reference or (asked.source.source_reference if asked.source else 0) or 0
        return {"content": self._sources.numbered(number).text(), "mimeType": "text/x-python"}

    def evaluate(self, asked: Evaluate) -> dict[str, Any]:
        """The value of an expression, or the answer to a question."""
        where = self._asked(asked.frame_id)
        styled = self.styled and asked.context == "repl"
        found = answer(replace(where, styled=styled), asked.expression)
        return {
            "result": found.text,
            "type": found.type_name,
            "variablesReference": self.handles.add_value(found, asked.expression.strip()),
            "namedVariables": found.named,
            "indexedVariables": found.indexed,
        }

    def completions(self, asked: Completions) -> dict[str, Any]:
        """Names that complete a line."""
        before = asked.text[: max(0, asked.column - 1)]
        names = console_completions(self._asked(asked.frame_id), before)
        return {"targets": [{"label": name} for name in names]}

    def log_text(self, moment: Moment, row: int, expression: str) -> str:
        """The value of an expression of a log message; an error in words.

        Args:
            moment: the moment at which it is printed.
            row: row of the batch.
            expression: the expression.
        """
        kind = frames_at(moment.position, moment.header, self._sources)[0].kind
        try:
            return answer(Asked(moment, kind, row), expression).text.rstrip("\n")
        except UsageError as error:
            return f"{{{error}}}"

    def _asked(self, frame_id: int | None) -> Asked:
        if frame_id is None:
            return Asked(self._travel.moment, self._frames()[0].kind, self.row)
        handle = self.handles.frame(frame_id)
        return Asked(self._travel.moment, handle.frame.kind, handle.row)

    def _frames(self) -> Sequence[Frame]:
        moment = self._travel.moment
        return frames_at(moment.position, moment.header, self._sources)

    def _frame(self, frame: Frame, row: int) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": self.handles.add_frame(FrameHandle(frame, row)),
            "name": frame.name,
            "line": 0,
            "column": 0,
        }
        if frame.source is not None:
            line = frame.line - 1 + self.first_line
            found |= {"line": line, "column": self.first_line, "source": source_record(frame.source)}
        return found

    def _scope(self, name: str, value: Value, *, is_locals: bool = False) -> dict[str, Any]:
        return {
            "name": name,
            **({"presentationHint": "locals"} if is_locals else {}),
            "variablesReference": self.handles.add_scope(value, is_locals=is_locals),
            "namedVariables": value.named,
            "indexedVariables": value.indexed,
            "expensive": not is_locals,
        }

    def _variable(self, item: Item, path: str) -> dict[str, Any]:
        value = item.value
        return {
            "name": item.name,
            "value": value.text,
            "type": value.type_name,
            **({"evaluateName": path} if path else {}),
            "variablesReference": self.handles.add_value(value, path),
            "namedVariables": value.named,
            "indexedVariables": value.indexed,
        }


def source_record(source: Source) -> dict[str, Any]:
    """A source file as a client is told of it.

    Args:
        source: the file.
    """
    name = source.file.rpartition("/")[2]
    if source.path is not None:
        return {"name": name, "path": str(source.path)}
    return {"name": name, "path": source.file, "sourceReference": source.number, "origin": source.note}


def _named_path(handle: ValueHandle, name: str) -> str:
    """An expression for a named part: of the locals, of a dictionary, or of an object."""
    if handle.is_locals:
        return name
    if not handle.path or not name.isidentifier():
        return ""
    by_key = isinstance(handle.value, Fields) and handle.value.by_key
    return f'{handle.path}["{name}"]' if by_key else f"{handle.path}.{name}"


def _indexed_path(handle: ValueHandle, place: int) -> str:
    return f"{handle.path}[{place}]" if handle.path else ""
