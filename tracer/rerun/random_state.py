"""Set the random number generators to a recorded state."""

from __future__ import annotations

import torch

from hooks.scores.random_state import generator_state
from tracer.analysis.draw import state_digest
from tracer.analysis.rerun_plan import RerunPlan


def set_random_state(plan: RerunPlan) -> str:
    """Set the generators to the state in which a run began.

    Args:
        plan: how to repeat it.

    Returns:
        How it was done, in words.
    """
    if plan.seed is None and plan.state_digest is None:
        return "(greedy)"
    device = torch.device(plan.state_device)
    if plan.seed is not None:
        torch.manual_seed(plan.seed)
        if plan.state is None or state_digest(generator_state(device).numpy().tobytes()) == plan.state_digest:
            return f"with seed {plan.seed}"
    assert plan.state is not None
    set_generator_state(plan.state, device)
    return "from the recorded random state"


def set_generator_state(state: bytes, device: torch.device) -> None:
    """Set the generator of a device.

    Args:
        state: whole, as the generator gives it.
        device: where it draws.
    """
    values = torch.frombuffer(bytearray(state), dtype=torch.uint8)
    if device.type == "cuda":
        torch.cuda.set_rng_state(values, device)
    else:
        torch.set_rng_state(values)
