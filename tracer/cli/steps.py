"""The options that name steps, such as `--steps`: which are printed in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from tracer.errors import UsageError


class StepSet(click.ParamType["Callable[[int], bool]"]):
    """``1,2``, ``3-7``, ``all`` or ``none``; converts to a predicate on step numbers."""

    name = "steps"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Callable[[int], bool]:
        """Parse a value of the option."""
        if callable(value):
            return value  # type: ignore[no-any-return]
        from tracer.halting.stops import parse_steps

        try:
            return parse_steps(str(value)).__contains__
        except UsageError as error:
            self.fail(str(error), param, ctx)
