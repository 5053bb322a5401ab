"""Which of several processes this is: under ``torchrun`` or ``accelerate launch`` each traces itself."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessRank:
    """One of several processes that work together.

    Attributes:
        rank: its number, from 0.
        world_size: how many there are.
    """

    rank: int
    world_size: int


def process_rank() -> ProcessRank | None:
    """The rank of this process, from ``torch.distributed`` or its launcher; None if it is alone."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        found = ProcessRank(distributed.get_rank(), distributed.get_world_size())
    else:
        try:
            found = ProcessRank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        except (KeyError, ValueError):
            return None
    return found if found.world_size > 1 and 0 <= found.rank < found.world_size else None


def path_of_rank(path: Path) -> Path:
    """A file's path with the rank of this process in its name: ``run.rank0.trace``; as it is if it is alone.

    Args:
        path: the path that one process alone would use.
    """
    found = process_rank()
    return path if found is None else path.with_suffix(f".rank{found.rank}{path.suffix}")
