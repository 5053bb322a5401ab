"""The arguments of the requests that are answered, as frozen values; what else a client sends is skipped."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Arguments(BaseModel):
    """Base of all arguments; on the wire their names are in camel case."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, strict=True)


class NoArguments(Arguments):
    """Nothing that matters here."""


class Initialize(Arguments):
    """How the client counts, and what it can show.

    Attributes:
        lines_start_at1: whether its first line is 1, else 0.
        supports_ansi_styling: whether it shows colours.
    """

    lines_start_at1: bool = True
    supports_ansi_styling: bool = Field(default=False, alias="supportsANSIStyling")


class Disconnect(Arguments):
    """How the client leaves.

    Attributes:
        terminate_debuggee: end the program as well.
    """

    terminate_debuggee: bool = False


class SourceName(Arguments):
    """A source file.

    Attributes:
        path: its path; None for text from the trace.
        source_reference: number of a text from the trace; 0 for none.
    """

    path: str | None = None
    source_reference: int | None = 0


class SourceBreakpoint(Arguments):
    """A breakpoint.

    Attributes:
        line: its line.
        condition: when it halts.
        hit_condition: the how manieth time.
        log_message: what it prints in place of halting.
    """

    line: int
    condition: str | None = None
    hit_condition: str | None = None
    log_message: str | None = None


class SetBreakpoints(Arguments):
    """All breakpoints of a file.

    Attributes:
        source: the file.
        breakpoints: the breakpoints.
    """

    source: SourceName
    breakpoints: list[SourceBreakpoint] = []


class FilterOption(Arguments):
    """A filter that is switched on.

    Attributes:
        filter_id: its name.
    """

    filter_id: str


class SetExceptionBreakpoints(Arguments):
    """The filters that are switched on.

    Attributes:
        filters: their names.
        filter_options: further ones.
    """

    filters: list[str] = []
    filter_options: list[FilterOption] = []


class OfThread(Arguments):
    """A move of a thread, or a question about it.

    Attributes:
        thread_id: the thread.
    """

    thread_id: int


class StackTrace(OfThread):
    """Frames of a thread.

    Attributes:
        start_frame: the first, from 0.
        levels: how many; 0 for all.
    """

    start_frame: int | None = 0
    levels: int | None = 0


class OfFrame(Arguments):
    """A question about a frame.

    Attributes:
        frame_id: the frame.
    """

    frame_id: int


class Variables(Arguments):
    """Parts of a value.

    Attributes:
        variables_reference: the value.
        filter: which parts; None for all.
        start: the first.
        count: how many; 0 for all.
    """

    variables_reference: int
    filter: Literal["indexed", "named"] | None = None
    start: int | None = 0
    count: int | None = 0


class SourceText(Arguments):
    """The text of a source file.

    Attributes:
        source_reference: number of the text.
        source: the file, which may hold the number instead.
    """

    source_reference: int = 0
    source: SourceName | None = None


class Evaluate(Arguments):
    """An expression.

    Attributes:
        expression: the expression.
        frame_id: in which frame; None for the innermost.
        context: where it was typed: ``repl``, ``watch``, ``hover``, …
    """

    expression: str
    frame_id: int | None = None
    context: str | None = None


class Completions(Arguments):
    """A line that is being typed.

    Attributes:
        text: the line.
        column: place of the cursor, from 1.
        frame_id: in which frame; None for the innermost.
    """

    text: str
    column: int
    frame_id: int | None = None


class GotoTargets(Arguments):
    """Where one can go from a line.

    Attributes:
        source: the file.
        line: the line.
    """

    source: SourceName
    line: int


class Goto(OfThread):
    """A place to go to.

    Attributes:
        target_id: which of the places offered.
    """

    target_id: int
