"""A queue between two threads that is bounded by bytes."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class ByteQueue(Generic[_Item]):
    """First in, first out; what waits or is being worked on never exceeds a number of bytes.

    An item that alone is larger than the bound passes when nothing else is under way. The consumer takes
    items in batches: work that comes in small pieces between those of another thread finds the processor's
    caches cold each time, and costs two to three times as much.

    Args:
        max_bytes: the bound.
        linger: seconds that the consumer waits for a batch to grow; it does not when a producer waits, says
            that an item is urgent, or has put a quarter of the bound.
    """

    def __init__(self, max_bytes: int, linger: float = 0.0) -> None:
        self.max_bytes = max_bytes
        self._linger = linger
        self._urgent = False
        self._items: list[tuple[_Item, int]] = []
        self._changed = threading.Condition()
        self._bytes = 0
        self._unfinished = 0
        self.peak_bytes = 0
        """Largest number of bytes that was under way at once."""
        self.waits = 0
        """How often :meth:`put` had to wait."""
        self.wait_seconds = 0.0
        """How long it waited in all."""

    def put(self, item: _Item, nbytes: int, *, urgent: bool = False) -> None:
        """Append an item, waiting while it does not fit.

        Args:
            item: the item.
            nbytes: the memory that it holds on to.
            urgent: take it at once, and all before it.
        """
        with self._changed:
            if not self._fits(nbytes):
                self._wait_for_room(nbytes)
            self._bytes += nbytes
            self._unfinished += 1
            self.peak_bytes = max(self.peak_bytes, self._bytes)
            self._items.append((item, nbytes))
            self._urgent = self._urgent or urgent or self._bytes > self.max_bytes // 4
            if self._urgent or len(self._items) == 1:
                self._changed.notify_all()

    def take(self) -> list[tuple[_Item, int]]:
        """Take all items, waiting for one; their bytes count until :meth:`done` was told of each."""
        with self._changed:
            while not self._items:
                self._changed.wait()
            self._changed.wait_for(lambda: self._urgent, timeout=self._linger)
            items, self._items = self._items, []
            self._urgent = False
            return items

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
                self._hurry()
                self._changed.wait()

    def _fits(self, nbytes: int) -> bool:
        # What weighs nothing always passes, so that closing a full queue never waits.
        return not nbytes or not self._unfinished or self._bytes + nbytes <= self.max_bytes

    def _wait_for_room(self, nbytes: int) -> None:
        started = time.perf_counter()
        self.waits += 1
        try:
            while not self._fits(nbytes):
                self._hurry()
                self._changed.wait()
        finally:
            self.wait_seconds += time.perf_counter() - started

    def _hurry(self) -> None:
        self._urgent = True
        self._changed.notify_all()
