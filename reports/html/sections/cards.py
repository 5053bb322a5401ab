"""Stop cards as JSON for the page's script; a block whose figures are in columns is only named."""

from __future__ import annotations

from collections.abc import Iterator

from reports.html.pack import Json
from reports.view.blocks import CacheTable, CriterionTable, FigureTable, OtherRows, Variable, VariableTable
from reports.view.card import BlockRenderers, StopCard, render_block
from reports.view.figures import byte_size, shape
from reports.view.text import plain
from tracer.schema.tensors import TensorInfo


def card_json(card: StopCard) -> Json:
    """A card as JSON: its stop, whether it is skipped, its blocks."""
    blocks = [render_block(block, _RENDERERS) for block in card.blocks]
    return {"stop": card.stop, "skipped": card.skipped, "blocks": blocks}


def tensor_text(info: TensorInfo) -> list[str]:
    """Shape, dtype and device as text."""
    return [shape(info.shape), plain(info.dtype), plain(info.device)]


def _variables(table: VariableTable) -> Json:
    return {
        "kind": "variables",
        "title": table.title,
        "rows": [_variable(variable) for variable in table.variables],
    }


def _variable(variable: Variable) -> Json:
    return {
        "name": variable.name,
        "tensor": tensor_text(variable.info) if variable.info else None,
        "value": variable.value,
        "meaning": variable.meaning,
        "changed": variable.changed,
    }


def _cache(table: CacheTable) -> Json:
    return {
        "kind": "cache",
        "title": table.title,
        "cache": table.kind,
        "slots": table.length,
        "bytes": byte_size(table.total_bytes),
        "rows": list(_cache_rows(table)),
    }


def _cache_rows(table: CacheTable) -> Iterator[Json]:
    for row in table.rows:
        yield {
            "layers": row.layers,
            "key": tensor_text(row.key),
            "value": tensor_text(row.value),
            "bytes": byte_size(row.layer_bytes),
        }


def _criteria(table: CriterionTable) -> Json:
    return {"kind": "criteria", "batch": table.batch, "fired": [list(row.fired) for row in table.rows]}


def figures_json(table: FigureTable) -> Json:
    """A table of figures as JSON."""
    return {
        "kind": "figures",
        "title": table.title,
        "columns": [column.heading for column in table.columns],
        "rows": [
            {
                "taken": row.taken,
                "cells": [cell if isinstance(cell, str) else {"token": cell.id} for cell in row.cells],
            }
            for row in table.rows
        ],
    }


def _other_rows(table: OtherRows) -> Json:
    return {
        "kind": "others",
        "columns": list(table.columns),
        "rows": [[row, *text] for row, text in table.rows],
    }


_RENDERERS = BlockRenderers[Json](
    note=lambda note: {"kind": "note", "text": note.text, "level": note.level},
    variables=_variables,
    tokens=lambda strip: {
        "kind": "tokens",
        "title": strip.title,
        "ids": [token.id for token in strip.tokens],
        "start": strip.start,
    },
    # The page takes the figures of the next four from the columns of the step and the run.
    layers=lambda _: {"kind": "layers"},
    stages=lambda _: {"kind": "stages"},
    candidates=lambda found: {"kind": "candidates", "title": found.title},
    choice=lambda _: {"kind": "choice"},
    cache=_cache,
    criteria=_criteria,
    figures=figures_json,
    other_rows=_other_rows,
)
