"""A script whose debugger leaves before the first step.

Arguments: the trace to make, and ``again`` or nothing. It prints for each token, and for the time after the
run, whether this thread is watched; with ``again`` another debugger attaches during the second step.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import tiny_model
from tests.tracer.debugger.client import DebugClient
from tracer import trace
from tracer.debugger import attach
from tracer.halting.stops import plan_stops


def main(path: Path, again: bool) -> None:
    ports: list[int] = []
    visitors: list[threading.Thread] = []

    def say(line: str) -> None:
        if line.startswith("Waiting"):
            ports.append(int(line.rpartition(":")[2]))
            visitors.append(threading.Thread(target=visit))
            visitors[0].start()

    def visit() -> None:
        with DebugClient(ports[0]) as client:
            client.attach()
            client.disconnect()

    class Watched(BaseStreamer):  # type: ignore[misc]
        """The prompt comes first, then a token a step, each before the step is over."""

        def __init__(self) -> None:
            self.tokens = -1

        def put(self, _value: Any) -> None:
            self.tokens += 1
            if self.tokens:
                sys.stdout.write(f"{self.tokens} {is_watched()}\n")
            if self.tokens == 2 and again:
                clients.append(DebugClient(ports[0]))
                clients[0].attach()

        def end(self) -> None:
            pass

    clients: list[DebugClient] = []
    # Nothing of the plan is in these steps, so that nobody has to let the run go on.
    halt = attach(0, plan=plan_stops("model-call", "99"), say=say)
    visitors[0].join()
    model, prompt = tiny_model(_attn_implementation="eager"), torch.tensor([[1, 17, 42]])
    with trace(model, tiny_tokenizer(), path, halt=halt):
        model.generate(prompt, max_new_tokens=4, do_sample=False, eos_token_id=None, streamer=Watched())
    sys.stdout.write(f"after {is_watched()}\n")
    for client in clients:
        client.close()


def is_watched() -> bool:
    """Whether pydevd sees what this thread does."""
    from _pydevd_bundle.pydevd_constants import PYDEVD_USE_SYS_MONITORING

    if not PYDEVD_USE_SYS_MONITORING:
        return sys.gettrace() is not None
    from _pydevd_sys_monitoring import pydevd_sys_monitoring as monitoring

    watched: bool = monitoring.suspend_current_thread_tracing()
    if watched:
        monitoring.resume_current_thread_tracing()
    return watched


if __name__ == "__main__":
    main(Path(sys.argv[1]), "again" in sys.argv)
