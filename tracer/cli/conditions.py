"""The `--break` option: conditions are checked before anything is loaded."""

from __future__ import annotations

import click


def checked_conditions(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse a wrong condition.

    Raises:
        UsageError: naming the place that is wrong.
    """
    if values:
        from tracer.analysis.conditions.condition import parse_condition

        for value in values:
            parse_condition(value)
    return values
