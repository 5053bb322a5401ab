"""The steps of a run in sections of :data:`CHUNK` steps, so that the page inflates only what it shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.html.pack import Json, Section
from reports.html.sections.cards import card_json
from reports.recorded_run import Run
from reports.view.card import StopCard
from reports.view.stops.changed_variables import mark_changes
from reports.view.stops.checks import alerts, stop_notes
from reports.view.stops.step import stop_card
from tracer.schema.columns import NO_TOKEN, ScoreColumns
from tracer.schema.run import StopName, TokenText
from tracer.schema.step import Step

CHUNK = 16
"""Steps in a section: few enough to inflate within a key press, many enough to share their texts."""

_FILL = {"tokens": NO_TOKEN, "removed_tokens": NO_TOKEN, "chosen": NO_TOKEN, "scores": -np.inf}


class StepData:
    """Turns steps into sections.

    Args:
        name: prefix of the sections' names.
        run: the run.
        tokens: the token texts that are known.
    """

    def __init__(self, name: str, run: Run, tokens: Mapping[int, TokenText]) -> None:
        self._name = name
        self._header = run.header
        self._tokens = tokens
        self._before: dict[int, tuple[StopCard, ...]] = {}
        self._waiting: list[tuple[Json, ScoreColumns | None]] = []
        self._full: list[Section] = []

    def add(self, step: Step) -> None:
        """Collect a step."""
        rows = [[card_json(card) for card in self._cards(step, row)] for row in range(step.rows)]
        metadata = {
            "number": step.number,
            "stages": step.head.stages,
            "rows": rows,
            "alerts": [
                {"text": note.text, "level": note.level} for note in alerts(step, self._header.modules)
            ],
            "new": [step.head.inputs.new_start, step.head.inputs.sequence_length],
            "seconds": step.head.seconds,
        }
        self._waiting.append((metadata, step.scores))
        if len(self._waiting) == CHUNK:
            self._flush()

    def sections(self) -> Iterator[Section]:
        """All sections; the last one may hold fewer steps."""
        if self._waiting:
            self._flush()
        yield from self._full

    def _cards(self, step: Step, row: int) -> tuple[StopCard, ...]:
        cards = tuple(self._card(step, stop, row) for stop in self._header.stops[1:])
        before, self._before[row] = self._before.get(row), cards
        return cards if before is None else mark_changes(cards, before)

    def _card(self, step: Step, stop: StopName, row: int) -> StopCard:
        if stop == "layers":  # drawn from the columns of the run; folding every step's calls takes long
            found = stop_notes(step, stop, self._header)
            return StopCard("layers", self._header.number("layers"), "layers", None, found)
        return stop_card(self._header, step, self._tokens, stop, row=row)

    def _flush(self) -> None:
        metadata = [each for each, _ in self._waiting]
        name = f"{self._name}-steps{len(self._full)}"
        arrays = _stacked([scores for _, scores in self._waiting])
        self._full.append(Section(name, metadata, arrays, {"scores": 1, "tokens": 0, "removed_tokens": 0}))
        self._waiting = []


def _stacked(steps: Sequence[ScoreColumns | None]) -> dict[str, npt.NDArray[Any]]:
    """The columns of several steps with one more axis in front; shorter ones are filled up.

    ``recorded`` says which steps have scores at all.
    """
    found: dict[str, npt.NDArray[Any]] = {
        "recorded": np.array([columns is not None for columns in steps], dtype=np.uint8)
    }
    if not any(found["recorded"]):
        return found
    for name in (field.name for field in fields(ScoreColumns)):
        arrays = [None if columns is None else getattr(columns, name) for columns in steps]
        found[name] = _padded(arrays, _FILL.get(name, 0))
    return found


def _padded(arrays: Sequence[npt.NDArray[Any] | None], fill: float) -> npt.NDArray[Any]:
    """Arrays of one rank stacked, each filled up to the largest size of every axis."""
    known = [array for array in arrays if array is not None]
    kind = np.uint8 if known[0].dtype == np.bool_ else known[0].dtype
    sizes = [max(axis) for axis in zip(*(array.shape for array in known), strict=True)]
    whole = np.full((len(arrays), *sizes), fill, dtype=kind)
    for line, array in zip(whole, arrays, strict=True):
        if array is not None:
            line[tuple(slice(size) for size in array.shape)] = array
    return whole
