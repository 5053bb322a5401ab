"""Why a token was chosen or not, and the smallest change that would have kept it."""

from tracer.analysis.why.answer import why, why_in_run

__all__ = ["why", "why_in_run"]
