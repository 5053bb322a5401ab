"""The forward hook that notes a call of a module which has forward hooks of others."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from hooks.faults import is_ours
from hooks.modules import tape
from hooks.modules.statistics import unreadable
from hooks.tensors import clone, tensors_in
from hooks.user_modes import unseen_by_modes

OnChanged = Callable[[int, "Tensor | None"], None]
"""Called with a module (by index) whose output a forward hook has changed, and a copy of its first tensor as
it was before."""


class CallHook:
    """A forward hook behind all others of a module, which notes the call with what its caller gets.

    Args:
        index: the module's index.
        owner: number of the model.
        on_changed: called with the index where another hook has changed an output.
    """

    def __init__(self, index: int, owner: int, on_changed: OnChanged) -> None:
        self._index = index
        self._owner = owner
        self._on_changed = on_changed
        self._expected: dict[int, list[_Given]] = {}
        self._module: nn.Module | None = None

    def add_to(self, module: nn.Module) -> None:
        """Add the hook to its module."""
        self._module = module
        module.register_forward_hook(self._note, with_kwargs=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> CallHook:
        """A copy notes nothing: the module's own way of copying itself has taken it along."""
        return CallHook(self._index, 0, lambda *_: None)

    def move_to_end(self) -> bool:
        """Run behind all hooks that were added since; False if somebody has removed it."""
        hooks: Any = self._hooks()
        number = self._number_in(hooks)
        if number is None:
            return False
        if next(reversed(hooks)) != number:
            hooks.move_to_end(number)
        return True

    def expect(self, output: Any) -> None:
        """``forward`` has returned in this thread; the hooks are next.

        Args:
            output: what it returned.
        """
        # A hook may call the module again before ours runs.
        self._expected.setdefault(threading.get_ident(), []).append(
            _Given(_versions(output), _copied(output))
        )

    def remove(self) -> None:
        """Remove the hook."""
        if self._module is not None:
            self._take_out(self._module._forward_hooks, self._module._forward_hooks_with_kwargs)

    def leave_out(self, state: dict[str, Any]) -> None:
        """Leave the hook out of what a copy of the module is made from.

        Args:
            state: the attributes of the copy.
        """
        names = ("_forward_hooks", "_forward_hooks_with_kwargs")
        if not state.keys() >= {*names}:  # a class may say itself what its copies are made from
            return
        for name in names:
            state[name] = copy.copy(state[name])
        self._take_out(*(state[name] for name in names))

    def _hooks(self) -> dict[int, Any]:
        return {} if self._module is None else self._module._forward_hooks

    def _number_in(self, hooks: dict[int, Any]) -> int | None:
        """Found by what it is: a handle may not have been kept where adding the hook was interrupted."""
        ours = (
            number for number, hook in [*hooks.items()] if type(hook) is MethodType and hook.__self__ is self
        )
        return next(ours, None)

    def _take_out(self, hooks: dict[int, Any], with_kwargs: dict[int, Any]) -> None:
        number = self._number_in(hooks)
        if number is not None:
            with_kwargs.pop(number, None)
            hooks.pop(number, None)

    def _note(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._module is None:
            return
        tape.parts.tape.note(self._index, args[0] if args else kwargs, output, self._owner)
        expected = self._expected.get(threading.get_ident())
        if expected:
            given = expected.pop()
            if given.is_other_than(output):
                self._on_changed(self._index, given.first)


@dataclass(frozen=True)
class _Given:
    """What ``forward`` returned.

    Attributes:
        versions: of its tensors; None where they cannot be asked.
        first: a copy of the first of them, if it can be copied.
    """

    versions: list[_Version] | None
    first: Tensor | None

    def is_other_than(self, output: Any) -> bool:
        """Whether hooks have made something else of it."""
        now = _versions(output)
        if self.versions is None or now is None:
            return False
        return self.versions != now or (self.first is not None and _differs(self.first, output))


class _Version:
    """A tensor, and how often it had been written to.

    Args:
        tensor: the tensor; one from inference mode does not say how often.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._written = None if tensor.is_inference() else tensor._version

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Version) and self._tensor is other._tensor and self._written == other._written
        )

    __hash__ = None  # type: ignore[assignment]


@unseen_by_modes
def _versions(output: Any) -> list[_Version] | None:
    """The tensors of an output as they are now; None where they cannot be asked."""
    try:
        return [_Version(tensor) for tensor in tensors_in(output)]
    except Exception as error:
        if not is_ours(error):
            raise
        return None


@unseen_by_modes
def _differs(before: Tensor, output: Any) -> bool:
    """Whether values have changed without a new version: by ``.data``, NumPy, or in inference mode.

    A GPU would have to be waited for; there only versions tell.
    """
    try:
        now = tensors_in(output)[0]
        if not now.is_cpu or torch.equal(before, now):
            return False
        return not torch.equal(before.nan_to_num(0.0), now.nan_to_num(0.0)) or not torch.equal(
            before.isnan(), now.isnan()
        )
    except Exception as error:
        if not is_ours(error):
            raise
        return False


@unseen_by_modes
def _copied(output: Any) -> Tensor | None:
    """A copy of the first tensor of an output, which a hook may write to; None where it cannot be had."""
    try:
        found = tensors_in(output)
        return clone(found[0]) if found and unreadable(found[0]) is None else None
    except Exception as error:
        if not is_ours(error):
            raise
        return None
