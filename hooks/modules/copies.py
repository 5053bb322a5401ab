"""Copies of a module that are made while stand-ins are on it: they have none, and call themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import nn

from hooks.inherited import method_of
from hooks.method_layer import MethodLayer
from hooks.patches import reduced_without_layers, take_out_copied, without_layers

_REPLICATE = "_replicate_for_data_parallel"

NAMES = ("__reduce_ex__", "__deepcopy__", _REPLICATE)
"""The methods of an instance that make copies; ``copy.copy`` asks its class for one of its own."""

LeaveOut = Callable[[dict[str, Any]], None]
"""Called with the attributes of a copy, to take out of them what is left."""


def copying_layers(
    module: nn.Module, leave_out: LeaveOut, *, replicable: bool
) -> Iterator[tuple[str, MethodLayer]]:
    """Layers over the methods of a module that make copies, by name.

    Args:
        module: the module.
        leave_out: called with the attributes of a copy, or of a pickle.
        replicable: whether ``nn.DataParallel`` makes replicas of it.
    """
    yield "__reduce_ex__", MethodLayer(method_of(module, "__reduce_ex__"), partial(_reduce, leave_out))
    # Not asked by getattr: a module looks for what it has not among its children too.
    if (vars(module).get("__deepcopy__") or getattr(type(module), "__deepcopy__", None)) is not None:
        yield "__deepcopy__", MethodLayer(method_of(module, "__deepcopy__"), partial(_deep_copy, module))
    if replicable:
        yield _REPLICATE, MethodLayer(method_of(module, _REPLICATE), _replicate)


def inside_data_parallel(modules: Sequence[nn.Module]) -> set[int]:
    """Indexes of the modules of which ``nn.DataParallel`` makes replicas, one for each GPU."""
    around = [module for module in modules if isinstance(module, nn.DataParallel)]
    inside = {id(each) for module in around for each in module.modules()}
    return {index for index, module in enumerate(modules) if id(module) in inside}


def _reduce(
    leave_out: LeaveOut, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return reduced_without_layers(inner(*args, **kwargs), leave_out)


def _deep_copy(
    module: nn.Module, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    copied = inner(*args, **kwargs)
    if isinstance(copied, nn.Module):
        take_out_copied(module, copied)
    return copied


def _replicate(inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A replica gets a copy of the instance's dictionary; what stands there would call the module itself."""
    replica = inner(*args, **kwargs)
    replica.__dict__ = without_layers(replica.__dict__)
    return replica
