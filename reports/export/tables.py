"""The tables that CSV and Parquet files hold: columns with their types, and rows one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from reports.recorded_run import Run
from tracer.library.first_scores import FIRST_SCORES
from tracer.schema.calls import CallShape
from tracer.schema.columns import NO_TOKEN, ModuleColumns, ScoreColumns
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step

Kind = Literal["int", "float", "text", "truth"]
Cell: TypeAlias = "int | float | str | bool | None"
Row: TypeAlias = tuple[Cell, ...]

_PLACE: dict[str, Kind] = {"run": "int", "step": "int", "row": "int"}


@dataclass(frozen=True)
class Table:
    """One kind of rows.

    Attributes:
        meaning: for people.
        columns: kind by name, in order.
        rows: rows of a step.
    """

    meaning: str
    columns: Mapping[str, Kind]
    rows: Callable[[Step, RunHeader, Mapping[int, TokenText]], Iterator[Row]]

    def of_run(self, run: Run) -> Iterator[Row]:
        """All rows of a run; one step is in memory at a time.

        Args:
            run: the run.
        """
        for step in run.steps:
            yield from self.rows(step, run.header, run.tokens)


def _text(tokens: Mapping[int, TokenText], token: int) -> str | None:
    known = tokens.get(token)
    return known.text if known is not None and known.spelled else None


def _choices(step: Step, _header: RunHeader, tokens: Mapping[int, TokenText]) -> Iterator[Row]:
    scores, head = step.scores, step.head
    for row in range(step.rows) if scores is not None else ():
        assert scores is not None
        if step.choice(row) is None:
            continue  # the run failed before it chose
        chosen = int(scores.chosen[row])
        second = next((each for each in step.candidates_of(row) if each.token != chosen), None)
        yield (
            head.run,
            head.step,
            row,
            chosen,
            _text(tokens, chosen),
            float(scores.chosen_probability[row]),
            int(scores.chosen_rank[-1, row]),
            int(scores.chosen_rank[0, row]),
            float(scores.chosen_scores[0, row]),
            float(scores.chosen_scores[-1, row]),
            float(scores.entropy[-1, row]),
            int(scores.candidates[row]),
            second.token if second else None,
            _text(tokens, second.token) if second else None,
            second.probability if second else None,
            bool(scores.finished[row]),
            head.inputs.sequence_length,
            head.cache_after.length,
            head.seconds,
            head.forward_seconds,
            len(head.violations),
        )


def _recorded(scores: ScoreColumns, row: int) -> Iterator[int]:
    return (int(place) for place in np.flatnonzero(scores.tokens[row] != NO_TOKEN))


def _candidates(step: Step, _header: RunHeader, tokens: Mapping[int, TokenText]) -> Iterator[Row]:
    scores, head = step.scores, step.head
    for row in range(step.rows) if scores is not None else ():
        assert scores is not None
        for place in _recorded(scores, row):
            token = int(scores.tokens[row, place])
            yield (
                head.run,
                head.step,
                row,
                token,
                _text(tokens, token),
                float(scores.scores[0, row, place]),
                float(scores.scores[-1, row, place]),
                float(scores.probabilities[row, place]),
                token == int(scores.chosen[row]),
            )


def _stages(step: Step, header: RunHeader, _tokens: Mapping[int, TokenText]) -> Iterator[Row]:
    scores, head = step.scores, step.head
    names = [FIRST_SCORES[header.loop].many, *(each.class_name for each in header.processors)]
    for row in range(step.rows) if scores is not None else ():
        assert scores is not None
        for stage in range(len(scores.kept)):
            yield (
                head.run,
                head.step,
                row,
                stage,
                names[stage] if stage < len(names) else None,
                int(scores.kept[stage, row]),
                int(scores.changed[stage, row]),
                int(scores.removed[stage, row]),
                float(scores.mass_removed[stage, row]),
                float(scores.entropy[stage, row]),
            )


def _modules(step: Step, header: RunHeader, _tokens: Mapping[int, TokenText]) -> Iterator[Row]:
    modules, layout = step.modules, step.layout
    if modules is None or layout is None:
        return
    for call, module in enumerate(layout.modules):
        yield (
            step.head.run,
            step.number,
            call,
            header.modules[module].name,
            header.modules[module].class_name,
            *_first_output(step.shapes.get(int(modules.shapes[call]))),
            *_statistics(modules, call),
        )


def _first_output(call_shape: CallShape | None) -> tuple[str | None, str | None]:
    """Shape and dtype of a call's first output."""
    if call_shape is None or not call_shape.outputs:
        return None, None
    output = call_shape.outputs[0]
    return "x".join(map(str, output.shape)), output.dtype


def _statistics(modules: ModuleColumns, call: int) -> Row:
    """Statistics of a call's output; all None where none were taken."""
    nonfinite = int(modules.nonfinite[call])
    if nonfinite < 0:
        return (None,) * 5
    return (
        *(float(column[call]) for column in (modules.mean, modules.std, modules.low, modules.high)),
        nonfinite,
    )


def _cache(step: Step, _header: RunHeader, _tokens: Mapping[int, TokenText]) -> Iterator[Row]:
    cache = step.cache
    if cache is None:
        return
    first = step.head.cache_before.length
    layers, rows, heads, slots = cache.key_norm.shape
    for layer, row, head, slot in np.ndindex(layers, rows, heads, slots):
        place = layer, row, head, slot
        keys, values = float(cache.key_norm[place]), float(cache.value_norm[place])
        yield step.head.run, step.number, row, layer, head, first + slot, keys, values


def _continuations(step: Step, _header: RunHeader, tokens: Mapping[int, TokenText]) -> Iterator[Row]:
    head, beams = step.head, step.head.beams
    for number, row in enumerate(beams.rows) if beams is not None else ():
        assert beams is not None
        batch_row, group = divmod(number, beams.groups)
        for place, each in enumerate(row.continuations, 1):
            yield (
                head.run,
                head.step,
                batch_row,
                group if beams.groups > 1 else None,
                place,
                each.parent,
                each.token,
                _text(tokens, each.token),
                each.before,
                each.log_probability,
                each.score,
                each.fate,
                each.row,
                each.penalty,
                each.bank,
                each.forced if beams.constraints is not None else None,
            )


def _rankings(step: Step, _header: RunHeader, tokens: Mapping[int, TokenText]) -> Iterator[Row]:
    head, found = step.head, step.head.contrastive
    for row, ranking in enumerate(found.rows) if found is not None else ():
        for place, each in enumerate(ranking.candidates if ranking is not None else ()):
            yield (
                head.run,
                head.step,
                row,
                place + 1,
                each.token,
                _text(tokens, each.token),
                each.probability,
                each.penalty,
                each.position,
                each.similar,
                each.score,
                ranking is not None and place == ranking.taken,
            )


TABLES: dict[str, Table] = {
    "choices": Table(
        "the chosen token of each step and row, and its figures",
        {
            **_PLACE,
            "token": "int",
            "text": "text",
            "probability": "float",
            "rank": "int",
            "raw_rank": "int",
            "raw_logit": "float",
            "score": "float",
            "entropy": "float",
            "candidates": "int",
            "runner_up": "int",
            "runner_up_text": "text",
            "runner_up_probability": "float",
            "ended": "truth",
            "length": "int",
            "cache_length": "int",
            "seconds": "float",
            "forward_seconds": "float",
            "violations": "int",
        },
        _choices,
    ),
    "candidates": Table(
        "the recorded tokens of each step and row with logit, score and probability",
        {
            **_PLACE,
            "token": "int",
            "text": "text",
            "raw_logit": "float",
            "score": "float",
            "probability": "float",
            "chosen": "truth",
        },
        _candidates,
    ),
    "stages": Table(
        "what each processor and warper changed and removed",
        {
            **_PLACE,
            "stage": "int",
            "processor": "text",
            "kept": "int",
            "changed": "int",
            "removed": "int",
            "mass_removed": "float",
            "entropy": "float",
        },
        _stages,
    ),
    "beams": Table(
        "the continuations that a beam search decided about",
        {
            "run": "int",
            "step": "int",
            "batch_row": "int",
            "group": "int",
            "place": "int",
            "parent": "int",
            "token": "int",
            "text": "text",
            "before": "float",
            "log_probability": "float",
            "score": "float",
            "fate": "text",
            "row": "int",
            "penalty": "float",
            "bank": "int",
            "forced": "truth",
        },
        _continuations,
    ),
    "rankings": Table(
        "the candidates that a contrastive search ranked",
        {
            **_PLACE,
            "place": "int",
            "token": "int",
            "text": "text",
            "probability": "float",
            "penalty": "float",
            "position": "int",
            "similar": "int",
            "score": "float",
            "taken": "truth",
        },
        _rankings,
    ),
    "modules": Table(
        "shape and statistics of each module call",
        {
            "run": "int",
            "step": "int",
            "call": "int",
            "module": "text",
            "class": "text",
            "shape": "text",
            "dtype": "text",
            "mean": "float",
            "std": "float",
            "min": "float",
            "max": "float",
            "nonfinite": "int",
        },
        _modules,
    ),
    "cache": Table(
        "norms of the keys and values that each step wrote",
        {**_PLACE, "layer": "int", "head": "int", "slot": "int", "key_norm": "float", "value_norm": "float"},
        _cache,
    ),
}
"""Tables by name; the first is the default."""
