"""A queue between two threads that is bounded by bytes."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class ByteQueue(Generic[_Item]):
    """A FIFO queue whose items, waiting or in progress, never exceed a number of bytes.

    An item that alone is larger than the bound is accepted when the queue is empty. The consumer takes items
    in batches: small pieces of work between those of another thread find the processor's caches cold each
    time, and cost two to three times as much.

    Args:
        max_bytes: the bound.
        linger: seconds that the consumer waits for a batch to grow; it does not wait while a producer does,
            for an urgent item, or once a quarter of the bound is in use.
    """

    def __init__(self, max_bytes: int, linger: float = 0.0) -> None:
        self.max_bytes = max_bytes
        self._linger = linger
        self._urgent = False
        self._items: list[tuple[_Item, int]] = []
        # Entered for itself, a lock takes no frames of Python, as its condition does.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._bytes = 0
        self._unfinished = 0
        self.peak_bytes = 0
        """Largest number of bytes in use at once."""
        self.waits = 0
        """Number of times :meth:`put` had to wait."""
        self.wait_seconds = 0.0
        """Seconds that it waited in total."""

    def put(self, item: _Item, nbytes: int, *, urgent: bool = False) -> None:
        """Append an item; waits while it does not fit.

        Args:
            item: the item.
            nbytes: the memory that it holds.
            urgent: whether the consumer takes it at once, with all items before it.
        """
        with self._lock:
            if not self._fits(nbytes):
                self._wait_for_room(nbytes)
            self._bytes += nbytes
            self._unfinished += 1
            if self._bytes > self.peak_bytes:
                self.peak_bytes = self._bytes
            self._items.append((item, nbytes))
            self._urgent = self._urgent or urgent or self._bytes > self.max_bytes // 4
            if self._urgent or len(self._items) == 1:
                self._changed.notify_all()

    def take(self) -> list[tuple[_Item, int]]:
        """Take all items; waits for the first. Their bytes are in use until :meth:`done` for each."""
        with self._changed:
            while not self._items:
                self._changed.wait()
            self._changed.wait_for(lambda: self._urgent, timeout=self._linger)
            items, self._items = self._items, []
            self._urgent = False
            return items

    def done(self, nbytes: int) -> None:
        """Report that an item is done and its memory released.

        Args:
            nbytes: its bytes, as passed to :meth:`put`.
        """
        with self._changed:
            self._bytes -= nbytes
            self._unfinished -= 1
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until every item is done."""
        with self._changed:
            while self._unfinished:
                self._hurry()
                self._changed.wait()

    def _fits(self, nbytes: int) -> bool:
        # An item without bytes is always accepted, so that closing a full queue never waits.
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
