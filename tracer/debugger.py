"""Halt a traced run at its stops in an attached debugger, in the library's own lines.

Everything that knows debugpy and its engine pydevd is here. Line breakpoints are put into pydevd from inside
the process, so that nobody has to set one; each asks the plan whether its line is a stop of this step.
"""

from __future__ import annotations

import io
import ipaddress
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from rich.console import Console

from reports.terminal import render_card
from tracer.analysis.conditions import Hit, find_hits
from tracer.errors import NoDebuggerError, UsageError
from tracer.live import LiveRun
from tracer.schema.run import Anchor, StopName
from tracer.stops import StopPlan, plan_stops

DEFAULT_PORT = 9501
LOOPBACK = "127.0.0.1"
CONSOLE_WIDTH = 100

GRACE = 0.5
"""Seconds after a disconnect at which whoever halted meanwhile is resumed."""

ATTACH_CONFIGURATION = f"Attach to trace-generate ({DEFAULT_PORT})"
"""Name of the configuration in ``.vscode/launch.json``."""

_RISK = (
    "whoever reaches a debugger port runs any code as you, without a password. "
    "Leave it on this machine and use `ssh -L {port}:localhost:{port}`, or pass --allow-remote-attach"
)


def attach(
    port: int = DEFAULT_PORT,
    *,
    host: str = LOOPBACK,
    wait: float | None = None,
    allow_remote: bool = False,
    plan: StopPlan | None = None,
    say: Callable[[str], object] | None = None,
) -> AttachedDebugger:
    """Listen for a debugger such as VS Code and wait until it has attached.

    A process that a debugger started is attached already: then nothing listens and nobody waits.

    Args:
        port: port to listen on; 0 for a free one.
        host: address to listen on.
        wait: seconds to wait at most; None for ever.
        allow_remote: allow a host that other machines reach.
        plan: where to halt; None for the default stops of the first two steps.
        say: told what a person at the terminal should know; standard error by default.

    Returns:
        What ``trace(halt=…)`` takes.

    Raises:
        UsageError: for a host that other machines reach, or a port that is taken.
        NoDebuggerError: nobody attached in time.

    Example:
        >>> with trace(model, tokenizer, halt=attach(port=9501)):
        ...     model.generate(**inputs)
    """
    say = say or _to_stderr
    require_loopback(host, port, allow_remote=allow_remote)
    # Frozen modules of the standard library hold no stop, so nobody needs to be warned of them.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    import debugpy

    if not debugpy.is_client_connected():
        host, port = _listen(host, port)
        _wait(host, port, wait, say)
    return AttachedDebugger(plan or plan_stops(), say)


def require_loopback(host: str, port: int, *, allow_remote: bool) -> None:
    """Refuse to listen where other machines reach it, unless that is wanted.

    Raises:
        UsageError: explaining the risk.
    """
    try:
        own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = False
    if not (own or allow_remote):
        raise UsageError(f"--attach-host {host}: {_RISK.format(port=port)}.")


def _listen(host: str, port: int) -> tuple[str, int]:
    import debugpy

    try:
        return tuple(debugpy.listen((host, port)))
    except (RuntimeError, ValueError, OSError) as error:
        # Once per process; it stays open for every later run.
        if "already been called" in str(error):
            return host, port
        advice = "choose another --port" if "in use" in str(error) else "check --attach-host and --port"
        raise UsageError(f"Cannot listen on {host}:{port}: {error}; {advice}.") from error


def _wait(host: str, port: int, seconds: float | None, say: Callable[[str], object]) -> None:
    import debugpy

    for line in waiting_lines(host, port):
        say(line)
    expired = threading.Event()

    def give_up() -> None:
        expired.set()
        debugpy.wait_for_client.cancel()

    timer = threading.Timer(seconds, give_up) if seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        debugpy.wait_for_client()
    finally:
        if timer is not None:
            timer.cancel()
    # One that came and has left again already does not hold up the run, as at any later moment.
    if expired.is_set() and not debugpy.is_client_connected():
        raise NoDebuggerError(f"No debugger attached on {_place(host, port)} within {seconds:g} s.")
    say("Debugger attached.")


def waiting_lines(host: str, port: int) -> tuple[str, str]:
    """What a person at the terminal is told when a debugger may attach.

    Args:
        host: address that is listened on.
        port: and the port.
    """
    other = "" if port == DEFAULT_PORT else f", with port {port} in .vscode/launch.json"
    return (
        f"Waiting for debugger attach on {_place(host, port)}",
        f"In VS Code: Run and Debug, {ATTACH_CONFIGURATION!r}{other}.",
    )


def _place(host: str, port: int) -> str:
    return f"{'localhost' if host == LOOPBACK else host}:{port}"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a script has no other display


class AttachedDebugger:
    """A halter: the run stands still in the debugger at each stop of the plan.

    A debugger that leaves does not hold up the run; one that comes back gets the stops again.
    """

    def __init__(self, plan: StopPlan, say: Callable[[str], object]) -> None:
        """Prepare.

        Args:
            plan: where to halt.
            say: told when the debugger leaves and comes back.
        """
        self._plan = plan
        self._say = say
        self._live: LiveRun | None = None
        self._breakpoints: Breakpoints | None = None
        self._thread = 0
        self._passed: tuple[int, set[str]] = (0, set())
        self._there = True

    def begin(self, live: LiveRun) -> None:
        """A run starts."""
        assert live.header is not None
        self._live, self._thread, self._passed = live, threading.get_ident(), (0, set())
        self._breakpoints = Breakpoints()
        for anchor in live.header.anchors:
            if anchor.stop in self._plan.stops:
                self._breakpoints.add(anchor.path, anchor.line, partial(self._at_stop, anchor))
            if anchor.stop == "stopping" and self._plan.breaks:
                self._breakpoints.add(anchor.path, anchor.line + 1, self._at_end_of_step)
        self._breakpoints.install()

    def end(self) -> None:
        """The run is over."""
        if self._breakpoints is not None:
            self._notice()
            self._breakpoints.remove()
        self._live = self._breakpoints = None

    def _at_stop(self, anchor: Anchor, frame: FrameType) -> bool:
        live = self._live
        if live is None or not self._first(anchor.stop, live):
            return False
        if not self._plan.halts(anchor.stop, live.step) or not self._notice():
            return False
        self._show(live, frame, f"\nStep {live.step}, before {anchor.file}:{anchor.line}: {anchor.text}")
        # Showing takes a while, and a halt without a debugger would last for ever.
        return self._notice()

    def _at_end_of_step(self, frame: FrameType) -> bool:
        live = self._live
        if live is None or not self._first("end", live) or not self._notice():
            return False
        hits = self._hits(live)
        if hits:
            self._show(live, frame, *(f"\nbreak: {hit}" for hit in hits))
        return bool(hits) and self._notice()

    def _hits(self, live: LiveRun) -> tuple[Hit, ...]:
        step = live.step_so_far()
        if step is None or live.header is None:
            return ()
        live.look_up(text for condition in self._plan.breaks for text in condition.texts)
        return find_hits(self._plan.breaks, step, live.header, live.tokens)

    def _first(self, place: StopName | str, live: LiveRun) -> bool:
        """Whether a place is passed for the first time in this step, by the thread that generates.

        A statement over several lines begins its first one twice, and a processor may run the model too.
        """
        if threading.get_ident() != self._thread:
            return False
        if self._passed[0] != live.step:
            self._passed = (live.step, set())
        first = place not in self._passed[1]
        self._passed[1].add(place)
        return first

    def _notice(self) -> bool:
        """Say it when the debugger has left or come back.

        Returns:
            Whether one is attached.
        """
        import debugpy

        there: bool = debugpy.is_client_connected()
        if there != self._there:
            # The run itself counts no further when it is over.
            step = max(self._passed[0], self._live.step if self._live is not None else 0)
            self._say(
                f"Debugger attached again in step {step}."
                if there
                else f"The debugger has left (step {step}): the run goes on without halting; "
                "attach again to halt again."
            )
        self._there = there
        return there

    def _show(self, live: LiveRun, frame: FrameType, *lines: str) -> None:
        """Print into the debug console what has become known, then the lines."""
        text = io.StringIO()
        console = Console(file=text, width=CONSOLE_WIDTH, color_system=None, highlight=False)
        try:
            for card in live.cards(frame.f_locals):
                console.print(render_card(card))
        except Exception as error:  # noqa: BLE001 - the halt itself is worth more than its card
            text.write(f"The card cannot be shown: {type(error).__name__}: {error}\n")
        for line in lines:
            text.write(f"{line}\n")
        assert self._breakpoints is not None
        self._breakpoints.write(text.getvalue())


class Breakpoints:
    """Line breakpoints of our own in pydevd, beside those of the client.

    Pydevd keeps one breakpoint a line, and forgets all of a file when the client sets its own there, and all
    of all files when the client disconnects. Ours are put back each time, and speak for a client's breakpoint
    on the same line.
    """

    def __init__(self) -> None:
        # pydevd comes with debugpy and is on the path once debugpy's server is loaded.
        import debugpy.server.api  # noqa: F401
        import pydevd
        import pydevd_file_utils

        self._py_db = pydevd.get_global_debugger()
        self._canonical = pydevd_file_utils.canonical_normalized_path
        self._ours: list[tuple[str, Any]] = []
        self._lock = threading.RLock()
        self._only_own_code = False

    def add(self, path: str, line: int, halts: Callable[[FrameType], bool]) -> None:
        """Prepare a breakpoint.

        Args:
            path: source file.
            line: the line, from 1.
            halts: asked, in the thread that runs the line, whether to halt there.
        """
        from _pydevd_bundle.pydevd_breakpoints import LineBreakpoint

        everything = "ALL" if self._py_db.multi_threads_single_notification else "NONE"
        file, number = self._canonical(path), -1 - len(self._ours)
        # Numbers below 0 are never a client's. The condition is false, so that only the hit question counts.
        own = LineBreakpoint(number, line, "False", "None", None, everything)
        own.handle_hit_condition = partial(self._hit, file, own, halts)
        self._ours.append((file, own))

    def install(self) -> None:
        """Put the breakpoints in and keep them in."""
        # On the instance, so that deleting it is a complete undo.
        self._py_db.on_breakpoints_changed = self._changed
        self._py_db.on_disconnect = self._disconnected
        self._repair()

    def remove(self) -> None:
        """Take them out; the client's stay."""
        with self._lock:
            del self._py_db.on_breakpoints_changed, self._py_db.on_disconnect
            for file, own in self._ours:
                known = self._py_db.file_to_id_to_line_breakpoint.get(file, {})
                if known.pop(own.breakpoint_id, None) is not None:
                    self._py_db.consolidate_breakpoints(file, known, self._py_db.breakpoints)
            self._ours = []
            if self._only_own_code:
                self._py_db.set_use_libraries_filter(True)
        self._py_db.on_breakpoints_changed(removed=True)

    def write(self, text: str) -> None:
        """Print into the client's debug console."""
        self._py_db.writer.add_command(self._py_db.cmd_factory.make_io_message(text, 1))

    def _changed(self, removed: bool = False) -> None:
        type(self._py_db).on_breakpoints_changed(self._py_db, removed=removed)
        self._repair()

    def _disconnected(self) -> None:
        type(self._py_db).on_disconnect(self._py_db)
        # Pydevd resumes who halts; who is about to halt at this very moment would never be resumed.
        timer = threading.Timer(GRACE, self._release)
        timer.daemon = timer.pydev_do_not_trace = timer.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
        timer.start()

    def _release(self) -> None:
        from _pydevd_bundle.pydevd_api import PyDevdAPI

        if not self._py_db.is_attached():
            PyDevdAPI().request_resume_thread("*")

    def _repair(self) -> None:
        """Put back what the client's requests have wiped; also called on the debugger's own thread."""
        py_db = self._py_db
        with self._lock:
            missing = [
                (file, own)
                for file, own in self._ours
                if py_db.breakpoints.get(file, {}).get(own.line) is not own
            ]
            for file, own in missing:
                known = py_db.file_to_id_to_line_breakpoint.setdefault(file, {})
                # Of several on one line the last counts.
                known.pop(own.breakpoint_id, None)
                known[own.breakpoint_id] = own
                py_db.consolidate_breakpoints(file, known, py_db.breakpoints)
            if py_db.get_use_libraries_filter():
                # "Just my code" would hide the very files that the stops are in.
                py_db.set_use_libraries_filter(False)
                self._only_own_code = True
        if missing:
            type(py_db).on_breakpoints_changed(py_db)

    def _hit(self, file: str, own: Any, halts: Callable[[FrameType], bool], frame: FrameType) -> bool:
        try:
            halt = halts(frame)
        except Exception as error:  # noqa: BLE001 - pydevd would halt there and say something about a condition
            halt = False
            self.write(f"A stop failed: {type(error).__name__}: {error}{os.linesep}")
        others = list(self._py_db.file_to_id_to_line_breakpoint.get(file, {}).values())
        for other in others:
            if other is not own and other.line == own.line:
                halt = self._client_hit(other, frame) or halt
        return halt

    def _client_hit(self, other: Any, frame: FrameType) -> bool:
        """Do for a client's breakpoint on the same line what pydevd would have done."""
        from _pydevd_bundle.pydevd_additional_thread_info import set_additional_thread_info

        info = set_additional_thread_info(threading.current_thread())
        if other.has_condition and not self._py_db.handle_breakpoint_condition(info, other, frame):
            return False
        if other.expression is not None:
            self._py_db.handle_breakpoint_expression(other, info, frame)
        if other.is_logpoint and info.pydev_message:
            self.write(info.pydev_message + os.linesep)
        return not other.is_logpoint
