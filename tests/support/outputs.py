"""What a decoder layer returns: the hidden states in a tuple, or alone since 4.54."""

from __future__ import annotations

from typing import Any

import torch


def hidden_of(output: Any) -> torch.Tensor:
    """The hidden states in an output."""
    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return found


def with_hidden(output: Any, hidden: torch.Tensor) -> Any:
    """The same output with other hidden states."""
    return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])
