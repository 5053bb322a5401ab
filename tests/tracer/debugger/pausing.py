"""A script that halts in a debugger, and in its second step waits until a file appears.

Arguments: the trace to make, and the file to wait for.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import debugpy
import torch

from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import tiny_model
from tests.tracer.debugger.client import TIMEOUT
from tracer import trace
from tracer.debugger import attach
from tracer.halting.stops import plan_stops


class Gate:
    """A criterion that lets the first step end, and the others when the file is there; it stops nothing."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.passed = 0

    def __call__(self, ids: torch.Tensor, _scores: Any) -> torch.Tensor:
        self.passed += 1
        deadline = time.monotonic() + TIMEOUT
        while self.passed > 1 and not self.file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return torch.zeros(len(ids), dtype=torch.bool)


def main(path: Path, gate: Path) -> None:
    model = tiny_model(_attn_implementation="eager")
    prompt = torch.tensor([[1, 17, 42]])
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": 4, "eos_token_id": None}
    before = model.generate(prompt, **settings)
    halt = attach(0, plan=plan_stops("model-call", "all"))
    with trace(model, tiny_tokenizer(), path, halt=halt):
        traced = model.generate(prompt, stopping_criteria=[Gate(gate)], **settings)
    assert debugpy.is_client_connected()
    import pydevd  # on the path since debugpy is loaded

    py_db = pydevd.get_global_debugger()
    assert vars(py_db).keys().isdisjoint({"on_breakpoints_changed", "on_disconnect"})
    assert not any(py_db.breakpoints.values())
    # Halts nowhere any more, though the debugger is still there.
    after = model.generate(prompt, **settings)
    assert before.tolist() == traced.tolist() == after.tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
