"""The RNG state before each choice, from which the very draw can be repeated."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import torch

from tracer.schema.base import of_valid
from tracer.schema.step import Draw

KEYFRAME_EVERY = 64
"""Steps between two states that are stored whole; in between a state follows by repeating the draws."""


def generator_state(device: torch.device) -> torch.Tensor:
    """The state of the default generator that ``torch.multinomial`` draws from. Reading it draws nothing.

    Args:
        device: where the probabilities are.

    Returns:
        Bytes on the CPU (5,056 for the CPU's Mersenne Twister, 16 for CUDA's Philox).
    """
    functions: Any = getattr(torch, device.type, None)
    if device.type == "cpu" or functions is None:
        return torch.default_generator.get_state()
    state: torch.Tensor = functions.get_rng_state(*_of(device))
    return state


def set_generator_state(state: torch.Tensor, device: torch.device) -> None:
    """Set the default generator that ``torch.multinomial`` draws from.

    Args:
        state: as :func:`generator_state` gave it.
        device: where the probabilities are.
    """
    functions: Any = getattr(torch, device.type, None)
    if device.type == "cpu" or functions is None:
        torch.default_generator.set_state(state)
    else:
        functions.set_rng_state(state, *_of(device))


def _of(device: torch.device) -> tuple[torch.device, ...]:
    """What the functions of a kind of device are told; of a Mac's GPU there is one only."""
    return () if device.type == "mps" else (device,)


def digest(state: torch.Tensor) -> str:
    """BLAKE2b-64 of a state, hex."""
    return _digest(state.numpy().tobytes())


def _digest(state: bytes) -> str:
    return hashlib.blake2b(state, digest_size=8).hexdigest()


class RngStates(NamedTuple):
    """The RNG state before and after one choice.

    Attributes:
        device: the generator's device.
        before: state right before the choice.
        after: state at the end of the step.
    """

    device: torch.device
    before: torch.Tensor
    after: torch.Tensor


def coming_choice(scores: torch.Tensor, rng: RngStates | None) -> torch.Tensor:
    """The tokens that ``_sample`` is about to choose, computed without touching its generator.

    Args:
        scores: ``[batch, vocab]`` that it chooses from.
        rng: states around the draw; None for the highest scores.

    Returns:
        ``[batch]`` ids.
    """
    if rng is None:
        return torch.argmax(scores, dim=-1)
    generator = torch.Generator(scores.device)
    generator.set_state(rng.before)
    probabilities = torch.nn.functional.softmax(scores, dim=-1)
    return torch.multinomial(probabilities, num_samples=1, generator=generator).squeeze(1)


class DrawRecorder:
    """Turns RNG states into records; a state is stored whole only where it does not follow from the last one.

    Args:
        state_after: digest of the state after the draw before the first one, if there was one.
    """

    def __init__(self, state_after: str = "") -> None:
        self._digest_after = state_after
        self._after = b""
        self._since_keyframe = 0

    def record(self, rng: RngStates) -> Draw:
        """The record of the next draw.

        Args:
            rng: the states around it.
        """
        state, after = rng.before.numpy().tobytes(), rng.after.numpy().tobytes()
        before = self._digest_after if state == self._after else _digest(state)
        follows = before == self._digest_after
        self._after, self._digest_after = after, _digest(after)
        whole = not follows or self._since_keyframe >= KEYFRAME_EVERY
        self._since_keyframe = 1 if whole else self._since_keyframe + 1
        return of_valid(
            Draw,
            device=str(rng.device),
            digest=before,
            follows=follows,
            state=state.hex() if whole else None,
        )
