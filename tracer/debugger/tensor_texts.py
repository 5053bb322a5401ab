"""Tensors in a debugger's list of variables: what they are, in one line, in place of their first values."""

from __future__ import annotations

from typing import Any

import torch

from tracer.messages import named

MOST_VALUES = 8
"""A tensor of no more values is shown with them."""

MOST_MEASURED = 1 << 20
"""Larger tensors are not measured: the list is made at every halt, for every variable in sight."""


def tensor_text(tensor: torch.Tensor) -> str:
    """A tensor in one line: ``float32 [1, 24, 576] mean 0.013, std 1.02, from -4.1 to 5.8``.

    Args:
        tensor: any tensor; it is only read, and no random number is drawn.
    """
    dtype, shape = str(tensor.dtype).removeprefix("torch."), ", ".join(map(str, tensor.shape))
    place = "" if tensor.device.type == "cpu" else f" {tensor.device}"
    return f"{dtype} [{shape}]{place}{_content(tensor)}"


def _content(tensor: torch.Tensor) -> str:
    # Asking a tensor of another class may compute or communicate.
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    if not plain or tensor.device.type == "meta" or not 0 < tensor.numel() <= MOST_MEASURED:
        return ""
    try:
        values = tensor.detach()
        if values.numel() <= MOST_VALUES:
            return f" {values.tolist()}"
        if values.is_complex():
            return ""
        low, high = values.min().item(), values.max().item()
        if not values.is_floating_point():
            return f" from {low} to {high}"
        mean, std = values.float().mean().item(), values.float().std(unbiased=False).item()
        return f" mean {mean:.3g}, std {std:.3g}, from {low:.3g} to {high:.3g}"
    except Exception as error:  # noqa: BLE001 - sparse or quantised values, or memory that was freed
        return f" ({named(error)})"


class TensorTexts:
    """Tells pydevd how to show tensors, as its extensions do."""

    def can_provide(self, type_object: Any, type_name: str) -> bool:
        """Whether this class shows objects of a type."""
        return isinstance(type_object, type) and issubclass(type_object, torch.Tensor)

    def get_str(self, tensor: Any) -> str:
        """A tensor in the list of variables."""
        return tensor_text(tensor)

    def get_str_in_context(self, tensor: Any, context: str) -> str:
        """A tensor that somebody asked for: in the console as Python prints it."""
        return repr(tensor) if context in ("repl", "clipboard") else tensor_text(tensor)

    def install(self) -> None:
        """Show tensors so from now on."""
        self._providers().insert(0, self)
        self._forget()

    def remove(self) -> None:
        """Show them as pydevd does."""
        providers = self._providers()
        if self in providers:
            providers.remove(self)
        self._forget()

    def _providers(self) -> list[Any]:
        from _pydevd_bundle.pydevd_extension_api import StrPresentationProvider
        from _pydevd_bundle.pydevd_extension_utils import extensions_of_type

        found: list[Any] = extensions_of_type(StrPresentationProvider)
        return found

    def _forget(self) -> None:
        """Let pydevd ask again who shows a type."""
        from _pydevd_bundle import pydevd_xml

        pydevd_xml._TYPE_RESOLVE_HANDLER._type_to_str_provider_cache.clear()  # noqa: SLF001 - it has no other way
