"""The options that halt a run at its stops, such as `--attach`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.halting.live_run import StopHandler
    from tracer.stepper import Stepper

_OPTIONS = (
    click.option("--step", "stepping", is_flag=True, help="Halt in the terminal and ask what to do."),
    click.option("--attach", is_flag=True, help="Wait for a debugger such as VS Code and halt in it."),
    click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Port for it (default: 9501)."),
    click.option(
        "--wait",
        type=click.FloatRange(min=0.1),
        metavar="SECONDS",
        help="Give up (code 11) if none attaches in this time (default: wait for ever).",
    ),
    click.option("--attach-host", metavar="HOST", help="Address to listen on (default: this machine only)."),
    click.option(
        "--allow-remote-attach",
        is_flag=True,
        help="Allow other machines to attach. Whoever reaches the port runs any code as you: there is no "
        "password. Use it only where nobody else can reach the port.",
    ),
    click.option(
        "--stop-at",
        metavar="STOPS|all",
        help="Halt there (default: model-call,forward-result,warpers,choice,update).",
    ),
    click.option(
        "--stop-steps",
        metavar="1,2|3-7|all|none",
        help="Halt in these steps (default: 1,2; with --step: all).",
    ),
)

_ATTACH_ONLY = ("port", "wait", "attach_host", "allow_remote_attach")
_HALTING = ("stop_at", "stop_steps")


def halt_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def stop_handler_maker(options: dict[str, Any]) -> Callable[[], StopHandler] | None:
    """What makes the stop handler for `--attach`; None without it. All options are checked.

    Args:
        options: of the command.

    Raises:
        UsageError: for options that do not go together, or a stop or step number that makes no sense.
    """
    attached, stepping = options["attach"], options["stepping"]
    if attached and stepping:
        raise UsageError("--step and --attach exclude each other: one of them asks what to do.")
    for name in (*(() if attached else _ATTACH_ONLY), *(() if attached or stepping else _HALTING)):
        if options[name] not in (None, False):
            needed = "--attach or --step" if name in _HALTING else "--attach"
            raise UsageError(f"--{name.replace('_', '-')} needs {needed}.")
    if not attached and not stepping:
        return None
    from tracer.halting.stops import plan_stops

    plan = plan_stops(options["stop_at"], options["stop_steps"], options["breaks"])
    if stepping:
        return None

    def make() -> StopHandler:
        from tracer.debugger import DEFAULT_PORT, LOOPBACK, attach

        return attach(
            DEFAULT_PORT if options["port"] is None else options["port"],
            host=options["attach_host"] or LOOPBACK,
            wait=options["wait"],
            allow_remote=options["allow_remote_attach"],
            plan=plan,
            say=lambda line: click.echo(line, err=True),
        )

    return make


def make_stepper(options: dict[str, Any], console: Any, on_begin: Callable[[], None]) -> Stepper | None:
    """The stepper for `--step`, None without it.

    Args:
        options: of the command.
        console: where it shows what it halts at.
        on_begin: called before it shows anything.
    """
    if not options["stepping"]:
        return None
    from tracer.halting.stops import ALL_STEPS, plan_stops
    from tracer.stepper import Stepper, open_lines

    plan = plan_stops(options["stop_at"], options["stop_steps"], options["breaks"], default_steps=ALL_STEPS)
    return Stepper(plan, open_lines(console), console, on_begin=on_begin)
