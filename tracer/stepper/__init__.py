"""Step through a generation in the terminal."""

from __future__ import annotations

from tracer.stepper.lines import PipeLines, TerminalLines, open_lines
from tracer.stepper.stepper import SteppedReport, Stepper

__all__ = ["PipeLines", "SteppedReport", "Stepper", "TerminalLines", "open_lines"]
