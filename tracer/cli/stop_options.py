"""Options that halt a run at its stops: in the terminal, or in a debugger that attaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from tracer.cli.options import Number, option_group
from tracer.cli.output import say
from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.forking.order import ForkDesk
    from tracer.halting.live_run import StopHandler
    from tracer.halting.stops import StopPlan

_ATTACH_ONLY = ("port", "wait", "attach_host", "allow_remote_attach")
_HALTING = ("stop_at", "stop_steps")


@dataclass(frozen=True)
class StopOptions:
    """What halts a run, where, and how a debugger attaches."""

    stepping: bool
    attach: bool
    port: int | None
    wait: float | None
    attach_host: str | None
    allow_remote_attach: bool
    stop_at: str | None
    stop_steps: str | None

    def plan(self, breaks: tuple[str, ...], last_step: int) -> StopPlan | None:
        """Where the run halts; None if it does not.

        Args:
            breaks: conditions at which it halts too.
            last_step: number of the last step that the run can have.

        Raises:
            UsageError: for options that do not go together, or a stop or step number that makes no sense.
        """
        self._check()
        if not self.attach and not self.stepping:
            return None
        from tracer.halting.stops import ALL_STEPS, DEFAULT_STEPS, plan_stops

        default_steps = ALL_STEPS if self.stepping else DEFAULT_STEPS
        plan = plan_stops(self.stop_at, self.stop_steps, breaks, default_steps=default_steps)
        if self.stop_steps is not None and plan.steps.in_vain(last_step):
            raise UsageError(f"--stop-steps {self.stop_steps}: this run has {last_step} steps at most.")
        if self.attach:
            self._check_address()
        return plan

    def _check_address(self) -> None:
        from tracer.debugger.address import DEFAULT_PORT, LOOPBACK, require_loopback

        port = DEFAULT_PORT if self.port is None else self.port
        require_loopback(self.attach_host or LOOPBACK, port, allow_remote=self.allow_remote_attach)

    def _check(self) -> None:
        if self.attach and self.stepping:
            raise UsageError("--step and --attach exclude each other: one of them asks what to do.")
        if not self.attach:
            self._refuse(_ATTACH_ONLY, "--attach")
        if not self.attach and not self.stepping:
            self._refuse(_HALTING, "--attach or --step")

    def _refuse(self, names: tuple[str, ...], needed: str) -> None:
        for name in names:
            if getattr(self, name) not in (None, False):
                raise UsageError(f"--{name.replace('_', '-')} needs {needed}.")

    def wait_for_debugger(self, plan: StopPlan, desk: ForkDesk) -> StopHandler:
        """Listen for a debugger and wait until it has attached.

        Args:
            plan: where the run halts in it.
            desk: where a fork is ordered in it.

        Raises:
            UsageError: the address is refused or taken.
            NoDebuggerError: nobody attached in time.
        """
        from tracer.debugger import DEFAULT_PORT, LOOPBACK, AttachedDebugger
        from tracer.debugger.listening import wait_for_client

        def complain(line: str) -> None:
            say(line, err=True)

        wait_for_client(
            DEFAULT_PORT if self.port is None else self.port,
            host=self.attach_host or LOOPBACK,
            wait=self.wait,
            allow_remote=self.allow_remote_attach,
            say=complain,
        )
        return AttachedDebugger(plan, complain, desk)


stop_options = option_group(
    "stops",
    StopOptions,
    click.option("--step", "stepping", is_flag=True, help="Halt in the terminal and ask what to do."),
    click.option("--attach", is_flag=True, help="Wait for a debugger such as VS Code and halt in it."),
    click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Port for it (default: 9501)."),
    click.option(
        "--wait",
        type=Number(above=0),
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
