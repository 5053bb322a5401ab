"""Line breakpoints of this program in pydevd, beside those of the client."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import FrameType
from typing import Any

from tracer.messages import named

GRACE = 0.5
"""Seconds after a disconnect at which threads that halted meanwhile are resumed."""


class Breakpoints:
    """Line breakpoints that this program sets in pydevd, beside those of the client.

    Pydevd keeps one breakpoint per line. It drops all of a file when the client sets its own there, and those
    of all files when the client disconnects. Ours are restored each time, and evaluate a client's breakpoint
    on the same line too.

    Args:
        standing_still: gives a context that is entered, in the halted thread, while that thread halts.
    """

    def __init__(self, standing_still: Callable[[], AbstractContextManager[object]]) -> None:
        # pydevd comes with debugpy and is on the path once debugpy's server is loaded.
        import debugpy.server.api  # noqa: F401
        import pydevd
        import pydevd_file_utils

        self._py_db = pydevd.get_global_debugger()
        self._canonical = pydevd_file_utils.canonical_normalized_path
        self._ours: list[tuple[str, Any]] = []
        self._lock = threading.RLock()
        self._only_own_code = False
        self._standing_still = standing_still

    def add(self, path: str, line: int, halts: Callable[[FrameType], bool]) -> None:
        """Add a breakpoint; :meth:`install` sets it.

        Args:
            path: source file.
            line: the line, from 1.
            halts: called in the thread that runs the line; returns whether to halt there.
        """
        from _pydevd_bundle.pydevd_breakpoints import LineBreakpoint

        everything = "ALL" if self._py_db.multi_threads_single_notification else "NONE"
        file, number = self._canonical(path), -1 - len(self._ours)
        # A client's numbers are never below 0. The condition is false: only the hit condition decides.
        own = LineBreakpoint(number, line, "False", "None", None, everything)
        own.handle_hit_condition = partial(self._hit, file, own, halts)
        self._ours.append((file, own))

    def install(self) -> None:
        """Set the breakpoints and restore them whenever pydevd drops them."""
        # On the instance, so that deleting it is a complete undo.
        self._py_db.on_breakpoints_changed = self._changed
        self._py_db.on_disconnect = self._disconnected
        self._py_db.do_wait_suspend = self._suspended
        self._py_db.in_project_scope = self._in_project_scope
        self._repair()

    def remove(self) -> None:
        """Remove the breakpoints; the client's stay."""
        with self._lock:
            del self._py_db.on_breakpoints_changed, self._py_db.on_disconnect, self._py_db.do_wait_suspend
            del self._py_db.in_project_scope
            for file, own in self._ours:
                known = self._py_db.file_to_id_to_line_breakpoint.get(file, {})
                if known.pop(own.breakpoint_id, None) is not None:
                    self._py_db.consolidate_breakpoints(file, known, self._py_db.breakpoints)
            self._ours = []
            if self._only_own_code:
                self._py_db.set_use_libraries_filter(True)
        self._py_db.on_breakpoints_changed(removed=True)

    def follow(self, attached: bool) -> None:
        """Trace this thread while a debugger is attached; pydevd itself would go on after it has detached.

        Tracing costs time at each line of every file with a breakpoint, and at each function call elsewhere.

        Args:
            attached: whether a debugger is attached.
        """
        if attached:
            self._py_db.enable_tracing()
            self._py_db.set_tracing_for_untraced_contexts()
        else:
            self._py_db.disable_tracing()

    def write(self, text: str) -> None:
        """Print into the client's debug console."""
        self._py_db.writer.add_command(self._py_db.cmd_factory.make_io_message(text, 1))

    def _changed(self, removed: bool = False) -> None:
        type(self._py_db).on_breakpoints_changed(self._py_db, removed=removed)
        self._repair()

    def _suspended(self, *arguments: Any, **options: Any) -> Any:
        """A thread halts, at a breakpoint of ours or of the client's, until it is resumed."""
        with self._standing_still():
            return type(self._py_db).do_wait_suspend(self._py_db, *arguments, **options)

    def _in_project_scope(self, frame: FrameType, absolute_filename: str | None = None) -> bool:
        """Whether a frame is of the user's project: an editor folds frames that are not, the halted one too.

        The files that the stops are in count as the user's, since they are what is looked at.
        """
        if self._canonical(frame.f_code.co_filename) in {file for file, _ in self._ours}:
            return True
        return bool(type(self._py_db).in_project_scope(self._py_db, frame, absolute_filename))

    def _disconnected(self) -> None:
        type(self._py_db).on_disconnect(self._py_db)
        # Pydevd resumes halted threads; one that is about to halt at this moment would never be resumed.
        timer = threading.Timer(GRACE, self._release)
        timer.daemon = timer.pydev_do_not_trace = timer.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
        timer.start()

    def _release(self) -> None:
        from _pydevd_bundle.pydevd_api import PyDevdAPI

        if not self._py_db.is_attached():
            PyDevdAPI().request_resume_thread("*")

    def _repair(self) -> None:
        """Restore what the client's requests have dropped; also called on the debugger's own thread."""
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
        except Exception as error:  # noqa: BLE001 - pydevd would halt there and report a condition
            halt = False
            self.write(f"A stop failed: {named(error)}{os.linesep}")
        others = list(self._py_db.file_to_id_to_line_breakpoint.get(file, {}).values())
        for other in others:
            if other is not own and other.line == own.line:
                halt = self._client_hit(other, frame) or halt
        return halt

    def _client_hit(self, other: Any, frame: FrameType) -> bool:
        """Evaluate a client's breakpoint on the same line as pydevd would have done."""
        from _pydevd_bundle.pydevd_additional_thread_info import set_additional_thread_info

        info = set_additional_thread_info(threading.current_thread())
        if other.has_condition and not self._py_db.handle_breakpoint_condition(info, other, frame):
            return False
        if other.expression is not None:
            self._py_db.handle_breakpoint_expression(other, info, frame)
        if other.is_logpoint and info.pydev_message:
            self.write(info.pydev_message + os.linesep)
        return not other.is_logpoint
