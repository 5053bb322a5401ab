"""Marks variables that differ from the same stop of the step before."""

from __future__ import annotations

from dataclasses import replace

from reports.view.blocks import Variable, VariableTable
from reports.view.card import Block, StopCard


def mark_changes(cards: tuple[StopCard, ...], before: tuple[StopCard, ...]) -> tuple[StopCard, ...]:
    """Mark the variables whose shape, dtype, device or value was another in the step before.

    Args:
        cards: the step's cards.
        before: the cards of the step before.
    """
    known = {
        (card.stop, block.title, variable.name): variable
        for card in before
        for block in card.blocks
        if isinstance(block, VariableTable)
        for variable in block.variables
    }

    def marked(card: StopCard, block: Block) -> Block:
        if not isinstance(block, VariableTable):
            return block
        return replace(
            block,
            variables=tuple(
                replace(item, changed=_differs(item, known.get((card.stop, block.title, item.name))))
                for item in block.variables
            ),
        )

    return tuple(replace(card, blocks=tuple(marked(card, block) for block in card.blocks)) for card in cards)


def _differs(variable: Variable, before: Variable | None) -> bool:
    return before is None or (variable.info, variable.value) != (before.info, before.value)
