"""Listen for a debugger and wait until it has attached."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from tracer.debugger.address import DEFAULT_PORT, LOOPBACK, place, require_loopback, waiting_lines
from tracer.debugger.attached import AttachedDebugger
from tracer.errors import NoDebuggerError, UsageError
from tracer.halting.stops import StopPlan, plan_stops


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
        wait: maximum number of seconds to wait; None to wait for ever.
        allow_remote: allow a host that other machines can reach.
        plan: where to halt; None for the default stops of the first two steps.
        say: receives each line for the terminal; by default it goes to standard error.

    Returns:
        What ``trace(halt=…)`` takes.

    Raises:
        UsageError: for a host that other machines can reach, or a port in use.
        NoDebuggerError: nobody attached in time.

    Example:
        >>> with trace(model, tokenizer, halt=attach(port=9501)):
        ...     model.generate(**inputs)
    """
    say = say or _to_stderr
    wait_for_client(port, host=host, wait=wait, allow_remote=allow_remote, say=say)
    return AttachedDebugger(plan or plan_stops(), say)


def wait_for_client(
    port: int, *, host: str, wait: float | None, allow_remote: bool, say: Callable[[str], object]
) -> None:
    """Listen for a debugger and wait until it has attached (see :func:`attach`).

    Args:
        port: port to listen on; 0 for a free one.
        host: address to listen on.
        wait: maximum number of seconds to wait; None to wait for ever.
        allow_remote: allow a host that other machines can reach.
        say: receives each line for the terminal.

    Raises:
        UsageError: for a host that other machines can reach, or a port in use.
        NoDebuggerError: nobody attached in time.
    """
    require_loopback(host, port, allow_remote=allow_remote)
    # No stop is in a frozen module of the standard library, so pydevd's warning about them is turned off.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    import debugpy

    if not debugpy.is_client_connected():
        host, port = _listen(host, port)
        _wait(host, port, wait, say)


def _listen(host: str, port: int) -> tuple[str, int]:
    import debugpy

    try:
        return tuple(debugpy.listen((host, port)))
    except (RuntimeError, ValueError, OSError) as error:
        # debugpy listens once per process, and stays open for every later run.
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
    # A debugger that has detached again already does not hold up the run, as at any later moment.
    if expired.is_set() and not debugpy.is_client_connected():
        raise NoDebuggerError(f"No debugger attached on {place(host, port)} within {seconds:g} s.")
    say("Debugger attached.")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a script has no other output
