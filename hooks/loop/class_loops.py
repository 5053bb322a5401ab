"""Loops that ``generate()`` looks up on the model's class: seen there while it looks, not while they run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from hooks.instance_class import instance_class, put_class, release_class, take_class
from hooks.method_layer import Handler


class ClassLoops:
    """Gives a model a class of its own while a ``generate()`` may look for its loop.

    While a loop runs the model has the class of the program: what was compiled for it, say, is not
    compiled anew for another. Between two calls it has its own, since ``generate()`` may be called as a
    function of the class, which nothing on the instance sees.

    Args:
        model: the model.
        handlers: by the name of a loop, what is called in its place.
    """

    def __init__(self, model: Any, handlers: Mapping[str, Handler]) -> None:
        self._model = model
        self._handlers = handlers
        self._lock = threading.RLock()
        self._searches: list[object] = []
        self._own = threading.local()
        self._shown = False
        self._made: dict[type, type] = {}

    def show(self) -> None:
        """Show the loops on the class, also where the program has given the model another one meanwhile."""
        with self._lock:
            self._shown = True
            kind: type = type(self._model)
            if any(made in kind.__mro__ for made in self._made.values()):
                return
            if kind not in self._made:
                self._made[kind] = instance_class(self._model, self._handlers)
            put_class(self._model, self._made[kind])

    def hide(self) -> None:
        """Put the class back for good; safe to call twice."""
        with self._lock:
            self._shown = False
            self._searches.clear()
            self._take()
            for made in self._made.values():
                release_class(made)
            self._made.clear()

    def search(self, token: object) -> None:
        """A ``generate()`` of this thread begins.

        Args:
            token: stands for it; :meth:`over` takes it, also where this was interrupted.
        """
        with self._lock:
            self._searches.append(token)
            self._tokens.append(token)
            self.show()

    def found(self) -> None:
        """A loop begins in this thread: unless another one still looks for its own, the class is put back."""
        with self._lock:
            if self._tokens:
                self._forget(self._tokens.pop())
            if not self._searches:
                self._take()

    def left(self) -> None:
        """The loop is over."""
        with self._lock:
            if self._shown:
                self.show()

    def over(self, token: object) -> None:
        """The ``generate()`` is over, whether it came to a loop or not; safe to call twice.

        Args:
            token: what :meth:`search` was called with.
        """
        with self._lock:
            self._forget(token)
            if token in self._tokens:
                self._tokens.remove(token)

    @property
    def _tokens(self) -> list[object]:
        """Calls of this thread that have not come to their loop, the innermost last."""
        tokens: list[object] = self._own.__dict__.setdefault("tokens", [])
        return tokens

    def _take(self) -> None:
        for made in self._made.values():
            take_class(self._model, made)

    def _forget(self, token: object) -> None:
        if token in self._searches:
            self._searches.remove(token)
