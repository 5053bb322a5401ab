"""Entry point: the command line, and the one place where errors become exit codes."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import click

from tracer.cli.group import CommandGroup
from tracer.errors import DEFECT, EXIT_CODES, INTERRUPTED, TraceGenerateError
from tracer.interrupts import Interrupts
from tracer.version import __version__

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES.items())


@click.group(
    cls=CommandGroup,
    default="run",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="trace-generate")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Step through a real Hugging Face generate(): every tensor, cache slot, processor and choice.

    `trace-generate --prompt TEXT` runs a model and prints each step; what it records can be shown again
    later without the model.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Args:
        arguments: instead of ``sys.argv[1:]``.
    """
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    sys.exit(_run([argument for argument in given if argument != "--debug"], debug=debug))


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        # Imported here, where its error becomes one line.
        import tracer.own_packages  # noqa: F401

        with Interrupts() as interrupts:
            outcome: Any = cli.main(
                arguments, prog_name="trace-generate", standalone_mode=False, obj=interrupts
            )
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        _tell(_one_line(error.format_message()))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _tell("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; nothing is left to say, and flushing at exit must not complain.
        sys.stdout = None
        return 0
    except TraceGenerateError as error:
        if debug:
            traceback.print_exc()
        _tell(_one_line(str(error)))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the outermost frame: a defect must not end in a bare traceback
        if debug:
            traceback.print_exc()
        _tell(_one_line(f"a defect of trace-generate, {type(error).__name__}: {error} (--debug shows where)"))
        return DEFECT


def _tell(line: str) -> None:
    print(f"trace-generate: {line}", file=sys.stderr)  # noqa: T201 - works even where the display does not


def _one_line(text: str) -> str:
    return " ".join(text.split())
