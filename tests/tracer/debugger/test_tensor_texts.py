"""Tensors as a debugger's list of variables shows them."""

from __future__ import annotations

import pytest
import torch

from tracer.debugger.tensor_texts import MOST_MEASURED, TensorTexts, tensor_text


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (
            torch.arange(24 * 576, dtype=torch.float32).reshape(1, 24, 576),
            "float32 [1, 24, 576] mean 6.91e+03,",
        ),
        (torch.tensor([[5, 9]]), "int64 [1, 2] [[5, 9]]"),
        (torch.ones(1, 30, dtype=torch.int64), "int64 [1, 30] from 1 to 1"),
        (torch.ones(40, dtype=torch.bool), "bool [40] from True to True"),
        (torch.tensor(1.5), "float32 [] 1.5"),
        (torch.empty(0, 4), "float32 [0, 4]"),
        (torch.empty(3, 4, device="meta"), "float32 [3, 4] meta"),
        (torch.full((4, 4), float("nan")), "float32 [4, 4] mean nan, std nan, from nan to nan"),
        (torch.zeros(20, dtype=torch.bfloat16), "bfloat16 [20] mean 0, std 0, from 0 to 0"),
        (torch.zeros(20, dtype=torch.complex64), "complex64 [20]"),
        (torch.eye(5).to_sparse(), "float32 [5, 5] ("),
        (torch.nn.Parameter(torch.zeros(2)), "float32 [2] [0.0, 0.0]"),
        (torch.zeros(1).expand(MOST_MEASURED + 1), f"float32 [{MOST_MEASURED + 1}]"),
    ],
)
def test_one_line_says_what_it_is(tensor: torch.Tensor, text: str) -> None:
    shown = tensor_text(tensor)
    assert shown.startswith(text)
    assert "\n" not in shown


def test_asking_changes_nothing() -> None:
    tensor = torch.randn(50, requires_grad=True)
    state = torch.get_rng_state()
    before = tensor.detach().clone()
    tensor_text(tensor)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(tensor.detach(), before)
    assert tensor.grad_fn is None


def test_the_console_prints_what_python_prints() -> None:
    tensor, texts = torch.zeros(3), TensorTexts()
    assert texts.get_str_in_context(tensor, "repl") == repr(tensor)
    assert texts.get_str_in_context(tensor, "hover") == "float32 [3] [0.0, 0.0, 0.0]"
    assert texts.can_provide(torch.nn.Parameter, "Parameter")
    assert not texts.can_provide(int, "int")
