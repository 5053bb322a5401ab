"""A queue between two threads that is bounded by bytes."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ByteQueue(Generic[T]):
    """First in, first out; what waits or is being worked on never exceeds a number of bytes.

    An item that alone is larger than the bound passes when nothing else is under way.

    Args:
        max_bytes: the bound.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._changed = threading.Condition()
        self._bytes = 0
        self._unfinished = 0
        self.peak_bytes = 0
        """Largest number of bytes that was under way at once."""
        self.waits = 0
        """How often :meth:`put` had to wait."""
        self.wait_seconds = 0.0
        """How long it waited in all."""

    def put(self, item: T, nbytes: int) -> None:
        """Append an item, waiting while it does not fit.

        Args:
            item: the item.
            nbytes: the memory that it holds on to.
        """
        with self._changed:
            if not self._fits(nbytes):
                self._wait_for_room(nbytes)
            self._bytes += nbytes
            self._unfinished += 1
            self.peak_bytes = max(self.peak_bytes, self._bytes)
            self._items.append((item, nbytes))
            self._changed.notify_all()

    def get(self) -> tuple[T, int]:
        """Take the oldest item, waiting for one; its bytes count until :meth:`done`."""
        with self._changed:
            while not self._items:
                self._changed.wait()
            return self._items.popleft()

    def done(self, nbytes: int) -> None:
        """Say that an item and its memory are gone.

        Args:
            nbytes: what it was put with.
        """
        with self._changed:
            self._bytes -= nbytes
            self._unfinished -= 1
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until every item has been taken and is done."""
        with self._changed:
            while self._unfinished:
                self._changed.wait()

    def _fits(self, nbytes: int) -> bool:
        # What weighs nothing always passes, so that closing a full queue never waits.
        return not nbytes or not self._unfinished or self._bytes + nbytes <= self.max_bytes

    def _wait_for_room(self, nbytes: int) -> None:
        started = time.perf_counter()
        self.waits += 1
        try:
            while not self._fits(nbytes):
                self._changed.wait()
        finally:
            self.wait_seconds += time.perf_counter() - started
