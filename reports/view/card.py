"""The card of a stop, and the one place where its blocks are told apart by type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from reports.view.blocks import (
    CacheTable,
    CandidateList,
    ChoiceTable,
    CriterionTable,
    FigureTable,
    LayerTable,
    Note,
    OtherRows,
    StageTable,
    TokenStrip,
    VariableTable,
)
from tracer.schema.run import Anchor, StopName

Block = (
    Note
    | VariableTable
    | TokenStrip
    | LayerTable
    | StageTable
    | CandidateList
    | ChoiceTable
    | CacheTable
    | CriterionTable
    | FigureTable
    | OtherRows
)


@dataclass(frozen=True)
class StopCard:
    """What one stop of a step shows.

    Attributes:
        stop: its name.
        number: its number, from 1.
        title: its title.
        anchor: the library's source line, None where there is none; its ``path`` alone is unchecked text.
        blocks: what is shown, in order.
        skipped: the run does not pass this stop; a note says why.
    """

    stop: StopName
    number: int
    title: str
    anchor: Anchor | None
    blocks: tuple[Block, ...]
    skipped: bool = False


Output = TypeVar("Output")


@dataclass(frozen=True)
class BlockRenderers(Generic[Output]):
    """What one output does with each type of block.

    An output that lacks a renderer for some type of block does not pass the type check.
    """

    note: Callable[[Note], Output]
    variables: Callable[[VariableTable], Output]
    tokens: Callable[[TokenStrip], Output]
    layers: Callable[[LayerTable], Output]
    stages: Callable[[StageTable], Output]
    candidates: Callable[[CandidateList], Output]
    choice: Callable[[ChoiceTable], Output]
    cache: Callable[[CacheTable], Output]
    criteria: Callable[[CriterionTable], Output]
    figures: Callable[[FigureTable], Output]
    other_rows: Callable[[OtherRows], Output]


def render_block(block: Block, renderers: BlockRenderers[Output]) -> Output:
    """Render a block with the renderer for its type.

    Args:
        block: the block.
        renderers: those of one output.
    """
    render: Callable[[Any], Output] = getattr(renderers, _RENDERER[type(block)])
    return render(block)


_RENDERER: dict[type[Block], str] = {
    Note: "note",
    VariableTable: "variables",
    TokenStrip: "tokens",
    LayerTable: "layers",
    StageTable: "stages",
    CandidateList: "candidates",
    ChoiceTable: "choice",
    CacheTable: "cache",
    CriterionTable: "criteria",
    FigureTable: "figures",
    OtherRows: "other_rows",
}
