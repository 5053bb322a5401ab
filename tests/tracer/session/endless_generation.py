"""Traces a generation until it is killed, and prints the number of each step, with the time and its token."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from tests.support.models import SAMPLING, batch, tiny_model
from tracer import trace

_SECONDS_A_STEP = 0.005


class Telling(StoppingCriteria):  # type: ignore[misc]
    """Says which step it is: the one before is over."""

    def __init__(self) -> None:
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Stop nothing."""
        self._step += 1
        sys.stdout.write(f"{self._step} {time.monotonic()} {int(input_ids[0, -1])}\n")
        sys.stdout.flush()
        time.sleep(_SECONDS_A_STEP)
        return torch.zeros(len(input_ids), dtype=torch.bool)


def main(path: Path, capture: Any) -> None:
    """Generate and do not end.

    Args:
        path: the trace.
        capture: how much of each step is recorded.
    """
    model = tiny_model(max_position_embeddings=100_000)
    criteria = StoppingCriteriaList([Telling()])
    save = ("logits", "kv") if capture == "tensors" else ()
    endless = {**SAMPLING, "max_new_tokens": 90_000, "eos_token_id": None}
    with trace(model, path=path, capture=capture, save=save):
        model.generate(**batch(), **endless, stopping_criteria=criteria)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
