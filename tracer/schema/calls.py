"""The module calls of a step: which modules, in which order, with which tensors."""

from __future__ import annotations

from tracer.schema.base import Record
from tracer.schema.tensors import TensorInfo


class CallShape(Record):
    """Specs of the inputs and outputs of a module call, without the module; interned, since few differ.

    Attributes:
        inputs: tensors among the arguments, positional first.
        outputs: tensors in the result, in order.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


class CallLayout(Record):
    """Which modules were called in a step, in the order in which the calls returned.

    Attributes:
        modules: module index per call.
        not_called: indices of registered modules that were not called.
    """

    modules: tuple[int, ...]
    not_called: tuple[int, ...]
