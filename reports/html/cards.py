"""Stop cards as the page's script lays them out: what is in the columns anyway is only named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reports.view.blocks import (
    Block,
    CacheTable,
    CandidateList,
    ChoiceTable,
    CriterionTable,
    LayerTable,
    Note,
    OtherRows,
    StageTable,
    StopCard,
    TokenStrip,
    Variable,
    VariableTable,
)
from reports.view.figures import byte_size, shape
from reports.view.text import plain
from tracer.schema.tensors import TensorInfo

Json = dict[str, Any]


def card_json(card: StopCard) -> Json:
    """A card as JSON: its stop, whether it is skipped, its blocks."""
    return {"stop": card.stop, "skipped": card.skipped, "blocks": [_block(block) for block in card.blocks]}


def tensor_text(info: TensorInfo) -> list[str]:
    """Shape, dtype and device as text."""
    return [shape(info.shape), plain(info.dtype), plain(info.device)]


def _block(block: Block) -> Json:
    if isinstance(block, Note):
        return {"kind": "note", "text": block.text, "level": block.level}
    if isinstance(block, VariableTable):
        return {
            "kind": "variables",
            "title": block.title,
            "rows": [_variable(variable) for variable in block.variables],
        }
    if isinstance(block, TokenStrip):
        ids = [token.id for token in block.tokens]
        return {"kind": "tokens", "title": block.title, "ids": ids, "start": block.start}
    if isinstance(block, CacheTable):
        return _cache(block)
    if isinstance(block, CriterionTable):
        return {"kind": "criteria", "batch": block.batch, "fired": [list(row.fired) for row in block.rows]}
    return _named(block)


def _named(block: StageTable | CandidateList | ChoiceTable | LayerTable | OtherRows) -> Json:
    """Blocks whose figures the page takes from the step's columns."""
    if isinstance(block, CandidateList):
        return {"kind": "candidates", "title": block.title}
    if isinstance(block, StageTable):
        return {"kind": "stages"}
    if isinstance(block, ChoiceTable):
        return {"kind": "choice"}
    if isinstance(block, LayerTable):
        return {"kind": "layers"}
    return {
        "kind": "others",
        "columns": list(block.columns),
        "rows": [[row, *text] for row, text in block.rows],
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
