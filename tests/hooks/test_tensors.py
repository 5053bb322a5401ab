"""Copies on the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hooks.tensors import to_host_all


class OnGpu(torch.Tensor):
    """Says that it is on a GPU."""

    is_cuda = True


def test_a_gpu_is_read_without_pinned_memory_where_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def empty(*_args: Any, **kwargs: Any) -> torch.Tensor:
        asked.append(kwargs)
        raise RuntimeError("CUDA error: out of memory")

    tensors = [torch.ones(2).as_subclass(OnGpu), torch.zeros(3)]
    monkeypatch.setattr(torch, "empty", empty)
    assert [each.tolist() for each in to_host_all(tensors)] == [[1, 1], [0, 0, 0]]
    assert [each["device"] for each in asked] == ["cpu"]  # whatever the default device is
