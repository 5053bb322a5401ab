"""The cards of a position."""

from __future__ import annotations

from collections.abc import Iterator

from reports.view import StopCard
from reports.view.stops.step import stop_card
from tracer.replay.moment import Moment
from tracer.schema.run import StopName


def cards_at(moment: Moment, stops: tuple[StopName, ...], row: int) -> Iterator[StopCard]:
    """The card of a position's stop, after those of stops on the way to it at which nothing halts.

    Args:
        moment: the moment.
        stops: the stops at which the journey halts.
        row: row of the batch to show in full.
    """
    place, header = stops.index(moment.position.stop), moment.header
    low = header.number(stops[place - 1]) + 1 if place else 1
    for stop in header.stops[low : header.number(moment.position.stop) + 1]:
        yield stop_card(moment.header, moment.step, moment.tokens, stop, row=row)
