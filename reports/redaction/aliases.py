"""Numbers that stand for token ids.

Token ids would give the text away to anyone who has the tokenizer. Each token gets another number, counted
from 1 in the order of appearance, so that the same token can still be followed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tracer.schema.arrays import I32
from tracer.schema.columns import NO_TOKEN
from tracer.schema.run import TokenText


class Aliases:
    """Numbers that stand for token ids, in the order in which tokens appear."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def of(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The numbers of ids, in the same shape; :data:`NO_TOKEN` stays."""
        given = np.asarray(ids, dtype=np.int64)
        numbers = [self._number(token) for token in given.ravel().tolist()]
        return np.array(numbers, dtype=np.int64).reshape(given.shape)

    def of_row(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """The numbers of the ids of one sequence."""
        return tuple(self._number(token) for token in ids)

    def of_columns(self, ids: I32) -> I32:
        """The same for a column of a step."""
        return self.of(ids).astype(np.int32)

    def texts(self, known: Mapping[int, TokenText]) -> dict[int, TokenText]:
        """All tokens with an empty text; special ones stay marked."""
        return {
            number: TokenText(id=number, text="", piece="", special=token in known and known[token].special)
            for token, number in self._numbers.items()
        }

    def _number(self, token: int) -> int:
        return token if token == NO_TOKEN else self._numbers.setdefault(token, len(self._numbers) + 1)
