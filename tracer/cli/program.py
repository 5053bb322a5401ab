"""The whole command line, and the one place where errors become exit codes."""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import Any

import click

from tracer.cli.group import CommandGroup
from tracer.cli.invocation import Invocation
from tracer.cli.standard_streams import (
    discard_output,
    flush_or_discard,
    is_output_fault,
    open_closed_streams,
    print_anything,
)
from tracer.cli.starting_line import StartingLine
from tracer.cli.terminal_state import TerminalState
from tracer.errors import DEFECT, EXIT_CODES, INTERRUPTED, OutputError, TraceGenerateError
from tracer.harmless_text import harmless
from tracer.interrupts import Interrupts, Stopped
from tracer.messages import reason
from tracer.version import __version__

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES.items())


@click.group(
    cls=CommandGroup,
    default="run",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="trace-generate")
def cli() -> None:
    """Step through a real Hugging Face generate(): every tensor, cache slot, processor and choice.

    `trace-generate --prompt TEXT` runs a model and prints each step; what it records can be shown again
    later without the model.
    """


def run(arguments: list[str], interrupts: Interrupts, starting_line: StartingLine) -> int:
    """Run a command.

    Args:
        arguments: of the command line.
        interrupts: the signals; from here on they raise.
        starting_line: the sign of life on the terminal.

    Returns:
        The exit code.
    """
    invocation = Invocation(interrupts, starting_line, open_closed_streams())
    print_anything()
    terminal = TerminalState()
    try:
        interrupts.raise_them()
        return _run(arguments, invocation)
    except KeyboardInterrupt as stop:  # also one that arrives while another error is being said
        terminal.restore()
        # A prompt that is interrupted raises an exception of its own.
        signalled = stop if isinstance(stop, Stopped) else interrupts.last
        _tell("interrupted" if signalled is None else str(signalled), invocation)
        flush_or_discard()
        return INTERRUPTED if signalled is None else signalled.exit_code
    finally:
        starting_line.clear()


def _run(arguments: list[str], invocation: Invocation) -> int:
    try:
        return _outcome(arguments, invocation)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        _tell(error.format_message(), invocation)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output has gone; nothing is left to say, and flushing at exit must not complain.
        discard_output()
        return 0
    except TraceGenerateError as error:
        _tell_with_traceback(error.command_line, invocation)
        return error.exit_code
    except OSError as error:
        return _ended_by_system(error, invocation)
    except Exception as error:  # noqa: BLE001 - the outermost frame: a defect must not end in a bare traceback
        return _ended_by_defect(error, invocation)


def _ended_by_system(error: OSError, invocation: Invocation) -> int:
    """Standard output that takes nothing any more is no defect, nor is a terminal that was closed."""
    if invocation.interrupts.last is not None:
        raise KeyboardInterrupt from error
    if not is_output_fault(error):
        return _ended_by_defect(error, invocation)
    discard_output()
    _tell(f"cannot write to standard output: {reason(error)}", invocation)
    return OutputError.exit_code


def _ended_by_defect(error: Exception, invocation: Invocation) -> int:
    defect = f"a defect of trace-generate, {type(error).__name__}: {error} (--debug shows where)"
    _tell_with_traceback(defect, invocation)
    return DEFECT


def _outcome(arguments: list[str], invocation: Invocation) -> int:
    """Run the command and write out everything that it printed."""
    # Imported here, where its error becomes one line.
    import tracer.own_packages  # noqa: F401

    if 1 in invocation.closed:
        raise OutputError("standard output is closed; send it to a file, or to /dev/null")
    outcome: Any = cli.main(arguments, prog_name="trace-generate", standalone_mode=False, obj=invocation)
    sys.stdout.flush()
    return outcome if isinstance(outcome, int) else 0


def _tell_with_traceback(line: str, invocation: Invocation) -> None:
    """Say what is wrong; with ``--debug`` below the traceback of the error at hand."""
    if invocation.debug:
        _print(harmless(traceback.format_exc().rstrip("\n"), keep="\n"), invocation)
    _tell(line, invocation)


def _tell(line: str, invocation: Invocation) -> None:
    _print(f"trace-generate: {harmless(' '.join(line.split()))}", invocation)


def _print(text: str, invocation: Invocation) -> None:
    invocation.starting_line.clear()
    with contextlib.suppress(OSError):  # there is nobody left to be told
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - works even where the display does not
