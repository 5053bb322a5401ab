"""What a client is told that it can ask for."""

from __future__ import annotations

from typing import Any

from tracer.replay.breaks.findings import KINDS

CAPABILITIES: dict[str, Any] = {
    "supportsConfigurationDoneRequest": True,
    "supportsStepBack": True,
    "supportsRestartRequest": True,
    "supportsRestartFrame": True,
    "supportsGotoTargetsRequest": True,
    "supportsConditionalBreakpoints": True,
    "supportsHitConditionalBreakpoints": True,
    "supportsLogPoints": True,
    "supportsEvaluateForHovers": True,
    "supportsCompletionsRequest": True,
    "supportsExceptionInfoRequest": True,
    "supportsDelayedStackTraceLoading": True,
    "supportsTerminateRequest": True,
    "supportTerminateDebuggee": True,
    "supportsANSIStyling": True,
    "exceptionBreakpointFilters": [
        {"filter": name, "label": name.capitalize(), "description": kind.description, "default": kind.default}
        for name, kind in KINDS.items()
    ],
}
"""The answer to ``initialize``."""
