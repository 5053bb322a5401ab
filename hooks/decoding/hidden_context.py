"""The hidden states of a sequence, which contrastive search compares each candidate with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class HiddenStates:
    """Hidden states of some positions in a row.

    Attributes:
        states: ``[rows, positions, hidden]`` on the host.
        ids: for each row the tokens of these positions; None for one without a token.
    """

    states: torch.Tensor
    ids: tuple[tuple[int | None, ...], ...]


class HiddenContext:
    """Collects the hidden states of a run, and has them at length one.

    Positions are added by the thread that generates, and read by others; each is normalised once.
    """

    def __init__(self) -> None:
        self._parts: list[HiddenStates] = []
        self._lock = threading.Lock()
        self._normal = torch.empty(0)
        self._filled = (0, 0)

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, part: HiddenStates) -> None:
        """Add the positions behind those that there are.

        Args:
            part: their hidden states.
        """
        self._parts.append(part)

    def ids(self, count: int) -> list[list[int | None]]:
        """The tokens of the first parts, row by row.

        Args:
            count: how many parts.
        """
        parts = self._parts[:count]
        rows = range(len(parts[0].ids)) if parts else range(0)
        return [[token for part in parts for token in part.ids[row]] for row in rows]

    def at_length_one(self, count: int) -> torch.Tensor:
        """``[rows, positions, hidden]`` the first parts, each state divided by its Euclidean norm.

        Args:
            count: how many parts.
        """
        with self._lock:
            for part in self._parts[self._filled[0] : count]:
                self._fill(at_length_one(part.states))
            length = sum(part.states.shape[1] for part in self._parts[:count])
            return self._normal[:, :length]

    def _fill(self, states: torch.Tensor) -> None:
        parts, filled = self._filled
        rows, added, hidden = states.shape
        if filled + added > (self._normal.shape[1] if parts else 0):
            grown = torch.empty((rows, 2 * (filled + added), hidden), dtype=states.dtype)
            if parts:
                grown[:, :filled] = self._normal[:, :filled]
            self._normal = grown
        self._normal[:, filled : filled + added] = states
        self._filled = parts + 1, filled + added


def at_length_one(states: torch.Tensor) -> torch.Tensor:
    """States divided by their Euclidean norms, as ``_ranking_fast`` of the library does it.

    Args:
        states: ``[rows, positions, hidden]``.
    """
    # Half precision is for accelerators: not all releases of torch multiply it on a CPU.
    states = states.float() if states.dtype == torch.float16 else states
    found: torch.Tensor = states / states.norm(dim=2, keepdim=True)
    return found


def most_similar(context: torch.Tensor, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest cosine similarity of states with those before them.

    Args:
        context: ``[rows, positions, hidden]`` at length one.
        states: ``[rows, candidates, hidden]``.

    Returns:
        ``[rows, candidates]`` that similarity, and the first position that has it.
    """
    cosine = torch.matmul(context, at_length_one(states).transpose(1, 2))
    found = cosine.max(dim=1)
    return found.values, found.indices


def chosen_states(states: torch.Tensor, places: Sequence[int]) -> torch.Tensor:
    """``[rows, 1, hidden]`` the state of one candidate of each row.

    Args:
        states: ``[rows, candidates, hidden]``.
        places: which candidate of each row.
    """
    found: torch.Tensor = states[range(len(places)), [*places]]
    return found[:, None]
