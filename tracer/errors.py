"""Every expected failure, each with the exit code that the command line ends with.

An expected failure is one line for the user: what is wrong and what to do. It is raised where it is
detected and caught once, in :mod:`tracer.cli.main`. Any other error that gets there is a defect of this
program.
:data:`EXIT_CODES` lists the codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

EXIT_CODES: Mapping[int, str] = MappingProxyType(
    {
        0: "success",
        1: "the two runs differ (diff, compare)",
        2: "wrong usage or input",
        3: "the model or tokenizer cannot be loaded",
        4: "unsupported transformers version, model or decoding mode",
        5: "an output file exists or cannot be written",
        6: "the device is absent or out of memory",
        7: "the generation finished, its trace is incomplete",
        8: "a trace file is damaged, of another kind or newer",
        9: "a check failed",
        10: "the model failed in generation, or a defect of this program",
        11: "no debugger attached in time",
        129: "the terminal was closed",
        130: "interrupted",
        143: "terminated",
    }
)
"""Exit codes of the command line and what they mean."""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

DIFFERENT = 1
"""Exit code of a comparison that found a difference, which is no failure and so has no error class."""

DEFECT = 10
"""Exit code of an unexpected error."""


class TraceGenerateError(Exception):
    """Base of all expected failures.

    Args:
        message: what is wrong and what to do, in words of the Python API.
        command_line: the same in words of the command line, where they differ.

    Attributes:
        exit_code: exit code of the command line when it is raised.
        command_line: what the command line prints.
    """

    exit_code: ClassVar[int] = DEFECT

    def __init__(self, message: str = "", *, command_line: str | None = None) -> None:
        super().__init__(message)
        self.command_line = message if command_line is None else command_line


class UsageError(TraceGenerateError):
    """An option, prompt or input file that cannot be used as given."""

    exit_code: ClassVar[int] = 2


class ModelLoadError(TraceGenerateError):
    """A model or tokenizer that cannot be found, fetched or loaded."""

    exit_code: ClassVar[int] = 3


class UnsupportedError(TraceGenerateError):
    """A transformers version, model kind or decoding mode that is not traced."""

    exit_code: ClassVar[int] = 4


class OutputError(TraceGenerateError):
    """An output that exists already or cannot be written."""

    exit_code: ClassVar[int] = 5


class DeviceError(TraceGenerateError):
    """A device that is absent or has run out of memory."""

    exit_code: ClassVar[int] = 6


class GenerationError(TraceGenerateError):
    """The model failed during generation; the trace up to there is kept."""

    exit_code: ClassVar[int] = DEFECT


class IncompleteTraceError(TraceGenerateError):
    """The generation finished but the trace does not hold all of it."""

    exit_code: ClassVar[int] = 7


class TraceFileError(TraceGenerateError):
    """A file that is no trace, is damaged, or was written by a newer version."""

    exit_code: ClassVar[int] = 8


class UnfitTensorsError(TraceFileError, UsageError):
    """Saved tensors that no capture of their run can have saved: a question about them has no answer."""


class CheckFailedError(TraceGenerateError):
    """A check that the user asked to be fatal did not hold."""

    exit_code: ClassVar[int] = 9


class NoDebuggerError(TraceGenerateError):
    """No debugger attached in time; nothing was generated."""

    exit_code: ClassVar[int] = 11
