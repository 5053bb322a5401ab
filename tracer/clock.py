"""The time as records hold it."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_now() -> str:
    """The time, UTC, ISO 8601 to the second, e.g. ``2026-11-28T09:30:00Z``."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
