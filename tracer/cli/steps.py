"""The `--steps` option: which steps are printed in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class StepSet(click.ParamType["Callable[[int], bool]"]):
    """``1,2``, ``3-7``, ``all`` or ``none``; converts to a predicate on step numbers."""

    name = "steps"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Callable[[int], bool]:
        """Parse a value of the option."""
        if callable(value):
            return value  # type: ignore[no-any-return]
        text = str(value).strip().lower()
        if text in ("all", "none"):
            return lambda _step: text == "all"
        ranges = []
        for part in text.split(","):
            low, dash, high = part.strip().partition("-")
            if not low.isdecimal() or (dash and not high.isdecimal()) or int(low) < 1:
                self.fail(f"{value!r}: expected step numbers as in 1,2 or 3-7, or all, or none.", param, ctx)
            last = int(high) if dash else int(low)
            if last < int(low):
                self.fail(f"{part.strip()!r}: the range ends before it starts.", param, ctx)
            ranges.append((int(low), last))
        return lambda step: any(first <= step <= last for first, last in ranges)
