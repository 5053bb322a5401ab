"""Which modules run inside code that ``torch.compile`` made."""

from __future__ import annotations

from typing import Any

from torch import nn


def is_compiled(module: nn.Module) -> bool:
    """Whether the module's own ``forward`` runs inside a compiled graph: ``module.compile()``.

    Args:
        module: the module.
    """
    return getattr(module, "_compiled_call_impl", None) is not None


def is_compiled_inside(module: nn.Module) -> bool:
    """Whether the modules below it run inside a compiled graph.

    That is so too where ``forward`` itself was compiled (``model.forward = torch.compile(model.forward)``),
    which is called from outside of the graph.

    Args:
        module: the module.
    """
    return is_compiled(module) or _is_compiled_function(vars(module).get("forward"))


def _is_compiled_function(function: Any) -> bool:
    # torch.compile leaves the original at its result, in this attribute since torch 2.0.
    return function is not None and hasattr(function, "_torchdynamo_orig_callable")
