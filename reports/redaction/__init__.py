"""Runs without what they say: texts, token ids and paths left out, figures kept; for every report."""

from reports.redaction.aliases import Aliases
from reports.redaction.redacted_run import RedactedRun, redacted_runs

__all__ = ["Aliases", "RedactedRun", "redacted_runs"]
