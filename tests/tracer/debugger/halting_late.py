"""A script that takes its time between the decision to halt and the halt. Argument: the trace to make."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import tracer.debugger.attached
from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import tiny_model
from tracer import trace
from tracer.debugger import attach
from tracer.debugger.breakpoints import GRACE, Breakpoints
from tracer.halting.stops import plan_stops


class Late(Breakpoints):
    """Halts late."""

    def _hit(self, file: str, own: Any, halts: Callable[[FrameType], bool], frame: FrameType) -> bool:
        halt = super()._hit(file, own, halts, frame)
        if halt:
            sys.stderr.write("about to halt\n")
            time.sleep(GRACE / 2)
        return halt


def main(path: Path) -> None:
    vars(tracer.debugger.attached)["Breakpoints"] = Late
    model = tiny_model(_attn_implementation="eager")
    debugger = attach(0, plan=plan_stops("model-call", "2"))
    with trace(model, tiny_tokenizer(), path, halt=debugger):
        model.generate(torch.tensor([[1, 17, 42]]), do_sample=False, max_new_tokens=4, eos_token_id=None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
