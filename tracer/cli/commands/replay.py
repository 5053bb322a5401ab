"""`trace-generate replay RUN.trace`: a recorded run in a debugger, forwards and backwards."""

from __future__ import annotations

from pathlib import Path

import click

from tracer.cli.options import run_of_option, run_option, trace_argument


@click.command("replay")
@trace_argument
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9501,
    show_default=True,
    metavar="N",
    help="Port for the debugger; 0 for a free one.",
)
@run_option
@click.option("--attach-host", metavar="HOST", help="Address to listen on (default: this machine only).")
@click.option(
    "--allow-remote-attach",
    is_flag=True,
    help="Allow other machines to attach. Whoever reaches the port reads the recording without a password.",
)
def replay_command(
    path: Path, port: int, run_number: int | None, attach_host: str | None, allow_remote_attach: bool
) -> None:
    """Let a debugger such as VS Code step through a recording, forwards and backwards, without the model."""
    from tracer.debugger.address import LOOPBACK, READS_ALL, require_loopback
    from tracer.replay.replaying import serve_replay
    from tracer.tracefile import TraceFile

    host = attach_host or LOOPBACK
    require_loopback(host, port, allow_remote=allow_remote_attach, risk=READS_ALL)
    with TraceFile(path) as recording:
        run = run_of_option(recording, run_number)
        serve_replay(run, host, port, lambda line: click.echo(line, err=True))
