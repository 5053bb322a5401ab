"""Set the random number generators to a recorded state."""

from __future__ import annotations

import torch

from hooks.scores.random_state import generator_state, set_generator_state
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
    set_generator_state(state_of(plan.state), device)
    return "from the recorded random state"


def state_of(state: bytes) -> torch.Tensor:
    """A recorded state as the generators of torch take it.

    Args:
        state: whole.
    """
    return torch.frombuffer(bytearray(state), dtype=torch.uint8)
